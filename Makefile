# Everything runs in .venv, which is made from requirements.txt when missing. Another Python: make test PYTHON=python3.12
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
# pyenv keeps more Pythons than the path shows: `python3.13` is looked for there too.
FOUND = $(or $(shell $(PYTHON) -c 'import sys; print(sys.executable)' 2>/dev/null), \
  $(shell ls -d "$$(pyenv root 2>/dev/null)"/versions/$(patsubst python%,%,$(notdir $(PYTHON)))*/bin/python 2>/dev/null | sort -V | tail -1))
# The environment of `make smoke`, one for each Python: with the newest versions that pip finds, or with the oldest allowed.
SMOKE = .venv-smoke-$(notdir $(PYTHON))$(if $(OLDEST),-oldest)

# The tests of `make check`.
CHECKED := objective bound contrast cdcd negatives process house types glossary

# What the calling shell has set up for another Python must not leak into this one.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV PYTHONDONTWRITEBYTECODE
# The models here are small: threads that wait for each other on a busy machine can cost a hundredfold.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo article check mathematics test test-all lint types docs smoke audit clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

setup: $(READY)  ## .venv with everything that is needed

demo: $(READY)  ## image + sentence -> video, then a small train -> resume -> sample -> evaluate round; about a minute
	@$(RUN) -m cdcd_video.demo

article: $(READY)  ## the write-up as one page, out/article/index.html; a few minutes
	@$(RUN) -m cdcd_video.tools.article

check: lint  ## what to run between two edits, under a minute: style, types beside the mathematics' tests, the rules of the house
	@$(MAKE) --no-print-directory -j2 types mathematics

mathematics: $(READY)
	@$(RUN) -m pytest $(addprefix tests/test_,$(addsuffix .py,$(CHECKED))) \
	  $(addprefix --deselect tests/test_house.py::test_,ruff_is_content every_import_is_installed) $(ARGS)

test: $(READY)  ## the test-suite; some of it: make test ARGS="tests/test_house.py -k layers"
	@$(RUN) -m pytest $(ARGS)

test-all: $(READY)  ## the same, with every case of the sweeps of which `make test` runs a sample
	@$(RUN) -m pytest --all $(ARGS)

lint: $(READY)  ## style, as the test-suite checks it
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .

types: $(READY)  ## type errors: none in the packages of the method, elsewhere no more than tests/type_baseline.json allows
	@$(RUN) -m cdcd_video.tools.dev.type_baseline

docs: $(READY)  ## the site, in site/; `python -m http.server -d site` shows it, with its search
	@NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --quiet
	@echo "site/index.html is ready; \`python -m http.server -d site\` shows it with its search."

smoke:  ## everything once in an environment of its own: make smoke PYTHON=python3.13, or OLDEST=1 for the oldest dependencies
	@"$(FOUND)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || \
	  { echo "error: $(PYTHON) is not here or older than 3.10; choose another: make smoke PYTHON=python3.12" >&2; exit 2; }
	@"$(FOUND)" -m venv --clear $(SMOKE)
	@sed '/^# Tests/,$$d' requirements$(if $(OLDEST),-oldest).txt > $(SMOKE)/requirements.txt
	@$(SMOKE)/bin/python -m pip install -qq --disable-pip-version-check -r $(SMOKE)/requirements.txt
	@$(SMOKE)/bin/python -m pip install -qq --disable-pip-version-check --no-deps .
	@$(SMOKE)/bin/python -m cdcd_video.tools.smoke

audit: $(READY)  ## known vulnerabilities of the installed packages; asks PyPI's advisory service, so it needs the network
	@$(PYTHON) -m venv $(VENV)-audit && $(VENV)-audit/bin/python -m pip install -qq --disable-pip-version-check "pip-audit>=2.9"
	@$(VENV)-audit/bin/pip-audit --strict --path $$($(RUN) -c 'import sysconfig; print(sysconfig.get_path("purelib"))') || \
	  { echo "error: the audit found something, or could not ask about every package (see above)" >&2; exit 1; }

clean:  ## removes .venv, the demo's files and caches; keeps runs/
	rm -rf $(VENV) $(VENV)-audit $(VENV)-smoke-* out site .pytest_cache .ruff_cache .mypy_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The mark is written last: an installation that was interrupted, or a changed requirements.txt, is taken up again.
$(READY): requirements.txt
	@"$(FOUND)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || \
	  { echo "error: $(PYTHON) must be Python 3.10 or newer; choose one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	@echo "Setting up $(VENV) (once; PyTorch is large, so this takes a few minutes and 6 GB of disk) ..."
	@$(RUN) -c 'import pip' 2>/dev/null || "$(FOUND)" -m venv --clear $(VENV) || \
	  { echo "error: $(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }
	@sed -n '/^torch>/p' requirements.txt > $(VENV)/torch.txt
	@$(RUN) -m pip install -qq --disable-pip-version-check --upgrade -r $(VENV)/torch.txt
	@echo "PyTorch is there; now everything else ..."
	@$(RUN) -m pip install -qq --disable-pip-version-check --upgrade -r requirements.txt
	@touch $@
	@echo "$(VENV) is ready."
