// What stands around attention and MLP in a block with adaptive norm, each in one pass over memory where torch takes three
// to five: the modulated norm, and the change that is added through a gate. Rows of `width` numbers, a multiple of 16;
// scale, shift and gate are of a sample, (B, D) with rows `step` apart. Samples `begin` to `end` are worked on.

#include <cmath>
#include <cstdlib>
#include <cstring>

#include "lanes.h"

namespace {

constexpr int WIDEST = 4096;
constexpr int TOGETHER = 64;  // rows whose sums are added up before they are added to the others': float32 lasts longer

inline Vec all(float x) { return _mm512_set1_ps(x); }

// Adds up numbers of many rows, column by column.
class Columns {
 public:
  explicit Columns(int width) : width_(width) { std::memset(total_, 0, width * sizeof(float)), clear(); }
  void add(int c, Vec x) { _mm512_store_ps(some_ + c, _mm512_add_ps(_mm512_load_ps(some_ + c), x)); }
  void end_row() {
    if (++rows_ == TOGETHER) gather();
  }
  void take(float* to) {
    gather();
    std::memcpy(to, total_, width_ * sizeof(float));
  }

 private:
  void clear() { std::memset(some_, 0, width_ * sizeof(float)), rows_ = 0; }
  void gather() {
    for (int c = 0; c < width_; c += LANES)
      _mm512_store_ps(total_ + c, _mm512_add_ps(_mm512_load_ps(total_ + c), _mm512_load_ps(some_ + c)));
    clear();
  }
  int width_, rows_ = 0;
  alignas(64) float some_[WIDEST], total_[WIDEST];
};

}  // namespace

struct Modulated {
  const float *x, *scale, *shift;  // (B, N, D); the scale is the gate, where there is one
  void* y;                         // (B, N, D): what comes out, or (for a gate) the change that is added
  float *mean, *inverse;           // (B, N): of each row, and 1 / its standard deviation
  const void* grad;                // of y; float32 for a gate
  float *out, *grad_x, *grad_scale, *grad_shift;
  void* grad_y;
  int64_t step, num_rows, width, begin, end;
  float epsilon;
};

namespace {

template <class K>
void norm_forward(const Modulated& a) {
  const int D = int(a.width);
  for (int64_t b = a.begin; b < a.end; ++b) {
    const float *scale = a.scale + b * a.step, *shift = a.shift + b * a.step;
    for (int64_t i = b * a.num_rows; i < (b + 1) * a.num_rows; ++i) {
      const float* x = a.x + i * D;
      auto* y = static_cast<typename K::Number*>(a.y) + i * D;
      Vec sum = all(0), squares = all(0);
      for (int c = 0; c < D; c += LANES) sum = _mm512_add_ps(sum, _mm512_loadu_ps(x + c));
      const float mean = _mm512_reduce_add_ps(sum) / float(D);
      for (int c = 0; c < D; c += LANES) {
        const Vec off = _mm512_sub_ps(_mm512_loadu_ps(x + c), all(mean));
        squares = _mm512_fmadd_ps(off, off, squares);
      }
      const float inverse = 1 / std::sqrt(_mm512_reduce_add_ps(squares) / float(D) + a.epsilon);
      for (int c = 0; c < D; c += LANES) {
        const Vec normed = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x + c), all(mean)), all(inverse));
        const Vec factor = _mm512_add_ps(_mm512_loadu_ps(scale + c), all(1));
        K::put(y + c, 0xffff, _mm512_fmadd_ps(normed, factor, _mm512_loadu_ps(shift + c)));
      }
      a.mean[i] = mean;
      a.inverse[i] = inverse;
    }
  }
}

template <class K>
void norm_backward(const Modulated& a) {
  const int D = int(a.width);
  for (int64_t b = a.begin; b < a.end; ++b) {
    const float* scale = a.scale + b * a.step;
    Columns of_scale(D), of_shift(D);
    for (int64_t i = b * a.num_rows; i < (b + 1) * a.num_rows; ++i) {
      const float* x = a.x + i * D;
      const auto* grad = static_cast<const typename K::Number*>(a.grad) + i * D;
      const Vec mean = all(a.mean[i]), inverse = all(a.inverse[i]);
      Vec sum = all(0), along = all(0);
      for (int c = 0; c < D; c += LANES) {
        const Vec normed = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x + c), mean), inverse);
        const Vec g = K::get(grad + c, 0xffff), onto = _mm512_mul_ps(g, _mm512_add_ps(_mm512_loadu_ps(scale + c), all(1)));
        of_scale.add(c, _mm512_mul_ps(g, normed));
        of_shift.add(c, g);
        sum = _mm512_add_ps(sum, onto);
        along = _mm512_fmadd_ps(onto, normed, along);
      }
      const Vec level = all(_mm512_reduce_add_ps(sum) / float(D)), slope = all(_mm512_reduce_add_ps(along) / float(D));
      for (int c = 0; c < D; c += LANES) {
        const Vec normed = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x + c), mean), inverse);
        const Vec onto = _mm512_mul_ps(K::get(grad + c, 0xffff), _mm512_add_ps(_mm512_loadu_ps(scale + c), all(1)));
        const Vec rest = _mm512_sub_ps(onto, _mm512_fmadd_ps(normed, slope, level));
        _mm512_storeu_ps(a.grad_x + i * D + c, _mm512_mul_ps(rest, inverse));
      }
      of_scale.end_row();
      of_shift.end_row();
    }
    of_scale.take(a.grad_scale + b * D);
    of_shift.take(a.grad_shift + b * D);
  }
}

// out = x + gate y
template <class K>
void gate_forward(const Modulated& a) {
  const int D = int(a.width);
  for (int64_t i = a.begin * a.num_rows; i < a.end * a.num_rows; ++i) {
    const float* gate = a.scale + i / a.num_rows * a.step;
    const auto* y = static_cast<const typename K::Number*>(a.y) + i * D;
    for (int c = 0; c < D; c += LANES) {
      const Vec change = _mm512_mul_ps(_mm512_loadu_ps(gate + c), K::get(y + c, 0xffff));
      _mm512_storeu_ps(a.out + i * D + c, _mm512_add_ps(_mm512_loadu_ps(a.x + i * D + c), change));
    }
  }
}

template <class K>
void gate_backward(const Modulated& a) {
  const int D = int(a.width);
  for (int64_t b = a.begin; b < a.end; ++b) {
    const float* gate = a.scale + b * a.step;
    Columns of_gate(D);
    for (int64_t i = b * a.num_rows; i < (b + 1) * a.num_rows; ++i) {
      const float* grad = static_cast<const float*>(a.grad) + i * D;
      const auto* y = static_cast<const typename K::Number*>(a.y) + i * D;
      auto* grad_y = static_cast<typename K::Number*>(a.grad_y) + i * D;
      for (int c = 0; c < D; c += LANES) {
        const Vec g = _mm512_loadu_ps(grad + c);
        of_gate.add(c, _mm512_mul_ps(g, K::get(y + c, 0xffff)));
        K::put(grad_y + c, 0xffff, _mm512_mul_ps(g, _mm512_loadu_ps(gate + c)));
      }
      of_gate.end_row();
    }
    of_gate.take(a.grad_scale + b * D);
  }
}

}  // namespace

#ifdef __AVX512BF16__
#define BOTH(name) \
  extern "C" void modulated_##name(const Modulated* a, int is_half) { is_half ? name<InHalf>(*a) : name<InSingle>(*a); }
#else
#define BOTH(name) \
  extern "C" void modulated_##name(const Modulated* a, int) { name<InSingle>(*a); }
#endif
BOTH(norm_forward)
BOTH(norm_backward)
BOTH(gate_forward)
BOTH(gate_backward)
