"""Developers' tools. They belong to the checkout and are no part of the installed package; see `developer_command`."""
