// Scaled dot-product attention and its gradient on a CPU with AVX-512, for heads of up to 64 channels.
//
// The arithmetic of FlashAttention (Dao et al. 2022, algorithms 1 and 4): a tile of scores, 64 queries by some dozen
// keys, is worked out, used while it lies in the first cache, and worked out again for the gradient. Queries lie across
// a register's lanes, so a key's or a value's number is one broadcast, and heads of 12 channels waste little.
//
// A `word` is what one lane of a product takes: one float32, or two bfloat16 of neighbouring channels, keys or queries,
// as the instruction for bfloat16 wants them (both products added to a float32). Sums are in float32 in either kind.
// Keys that may not be seen are left out before anything is computed.

#include <cmath>
#include <cstdlib>
#include <cstring>

#include "lanes.h"

namespace {

constexpr int ROWS = 4;                  // registers across which the queries of a tile lie
constexpr int QUERIES = ROWS * LANES;    // of a tile
constexpr int GROUP = 4;                 // keys, or channels, times ROWS are the sums a product keeps in registers
constexpr int KEYS = 64, KEYS_BACK = 32; // of a tile, forward and backward: all that is in use fits 48 KB
constexpr float FAR_BELOW = -1e30f;      // less than any score, and finite: the difference of two of them is 0
constexpr double LOG2_E = 1.4426950408889634;

inline int up(int n, int to) { return (n + to - 1) / to * to; }
inline int least(int a, int b) { return a < b ? a : b; }

// Held in a register: as an operand in memory it would be loaded once for each use.
inline Words held(const uint32_t* p) {
  Words x = _mm512_load_si512(p);
  asm("" : "+v"(x));
  return x;
}

// 2^x = p(x - floor x) 2^(floor x); p has the least largest relative error on [0, 1]: 7.5e-5 of degree 3, 7.5e-8 of 5.
template <int DEGREE>
inline Vec exp2(Vec x) {
  constexpr float three[] = {0.999925196f, 0.695833564f, 0.226067156f, 0.0780245215f};
  constexpr float five[] = {0.99999994f, 0.693153083f, 0.240153611f, 0.0558263175f, 0.00898933969f, 0.00187757669f};
  const float* of = DEGREE == 3 ? three : five;
  const Vec part = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF);
  Vec p = _mm512_set1_ps(of[DEGREE]);
#pragma GCC unroll 5
  for (int i = DEGREE - 1; i >= 0; --i) p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(of[i]));
  return _mm512_scalef_ps(p, x);
}

struct Single : InSingle {
  static constexpr int PER_WORD = 1, DEGREE = 5;
  static Vec add(Vec sum, Words a, Words b) { return _mm512_fmadd_ps(floats(a), floats(b), sum); }
};

#ifdef __AVX512BF16__
struct Half : InHalf {
  static constexpr int PER_WORD = 2, DEGREE = 3;
  static Vec add(Vec sum, Words a, Words b) { return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b); }
  // Lane by lane the pair of both.
  static Words pair(Vec low, Vec high) {
    alignas(64) static constexpr uint16_t order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                       8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return _mm512_permutexvar_epi16(_mm512_load_si512(order), (Words)_mm512_cvtne2ps_pbh(high, low));
  }
  // Pairs of neighbours in `low`, then those in `high`.
  static Words line(Vec low, Vec high) { return (Words)_mm512_cvtne2ps_pbh(high, low); }
};
#endif

// ---- The three products. Each keeps its sums in registers while it runs along what it adds up.

using Sums = Vec[GROUP][ROWS];

// sums[g][r] += sum over w of tile[w][r] rows[g of_group + w of_word], all queries at once: for scores the words are of
// channels and the group of keys (`rows` lie by key), for what is mixed words are of keys and the group of channels.
template <class K>
inline __attribute__((always_inline)) void product(Sums& sums, const uint32_t* tile, const uint32_t* rows, int num_words,
                                                   int of_group, int of_word) {
  for (int w = 0; w < num_words; ++w) {
    Words a[ROWS];
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; ++r) a[r] = held(tile + w * QUERIES + r * LANES);
#pragma GCC unroll 4
    for (int g = 0; g < GROUP; ++g) {
      const Words b = _mm512_set1_epi32(int(rows[g * of_group + w * of_word]));
#pragma GCC unroll 4
      for (int r = 0; r < ROWS; ++r) sums[g][r] = K::add(sums[g][r], a[r], b);
    }
  }
}

// Scores of two keys, of queries with keys and of gradients with values at once.
using TwoKeys = Vec[2][ROWS];

template <class K>
inline __attribute__((always_inline)) void score_both(TwoKeys& of_k, TwoKeys& of_v, const uint32_t* q_across,
                                                      const uint32_t* g_across, const uint32_t* k_rows,
                                                      const uint32_t* v_rows, int num_words, int stride) {
  for (int w = 0; w < num_words; ++w) {
    Words q[ROWS], g[ROWS];
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; ++r) {
      q[r] = held(q_across + w * QUERIES + r * LANES);
      g[r] = held(g_across + w * QUERIES + r * LANES);
    }
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      const Words k = _mm512_set1_epi32(int(k_rows[j * stride + w])), v = _mm512_set1_epi32(int(v_rows[j * stride + w]));
#pragma GCC unroll 4
      for (int r = 0; r < ROWS; ++r) {
        of_k[j][r] = K::add(of_k[j][r], q[r], k);
        of_v[j][r] = K::add(of_v[j][r], g[r], v);
      }
    }
  }
}

// out[c][r] += sum over j of tile[j][r] rows[j][c]: values (or keys) mixed by weights, for each channel and query.
template <class K>
__attribute__((noinline)) void mix(float* out, const uint32_t* tile, const uint32_t* rows, int num_words,
                                   int num_channels) {
  for (int c = 0; c < num_channels; c += GROUP) {
    Sums sums;
    float* here = out + c * QUERIES;
#pragma GCC unroll 16
    for (int i = 0; i < GROUP * ROWS; ++i) sums[i / ROWS][i % ROWS] = _mm512_load_ps(here + i * LANES);
    product<K>(sums, tile, rows + c, num_words, 1, num_channels);
#pragma GCC unroll 16
    for (int i = 0; i < GROUP * ROWS; ++i) _mm512_store_ps(here + i * LANES, sums[i / ROWS][i % ROWS]);
  }
}

// out[j][c] += sum over i of tile[j][i] rows[i][c]: gradients of keys and values. Here channels lie across the lanes,
// V registers of them.
template <class K, int V>
__attribute__((noinline)) void collect(float* out, const uint32_t* tile, const uint32_t* rows, int num_keys) {
  constexpr int AT_ONCE = V == 1 ? 16 : V == 2 ? 8 : 4, STRIDE = QUERIES / K::PER_WORD;
  for (int j = 0; j < num_keys; j += AT_ONCE) {
    Vec sums[AT_ONCE][V];
    float* here = out + j * V * LANES;
#pragma GCC unroll 16
    for (int i = 0; i < AT_ONCE * V; ++i) sums[i / V][i % V] = _mm512_load_ps(here + i * LANES);
    for (int i = 0; i < STRIDE; ++i) {
      Words a[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) a[v] = held(rows + (i * V + v) * LANES);
      const uint32_t* beside = tile + j * STRIDE + i;
#pragma GCC unroll 16
      for (int g = 0; g < AT_ONCE; ++g) {
        const Words b = _mm512_set1_epi32(int(beside[g * STRIDE]));
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sums[g][v] = K::add(sums[g][v], a[v], b);
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < AT_ONCE * V; ++i) _mm512_store_ps(here + i * LANES, sums[i / V][i % V]);
  }
}

// ---- Laying numbers out for the products.

// A key's numbers for all queries, for `collect`.
template <class K>
inline void put_line(uint32_t* to, const Vec (&x)[ROWS]) {
  if constexpr (K::PER_WORD == 1)
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; ++r) _mm512_store_si512(to + r * LANES, words(x[r]));
  else
#pragma GCC unroll 2
    for (int r = 0; r < ROWS / 2; ++r) _mm512_store_si512(to + r * LANES, K::line(x[2 * r], x[2 * r + 1]));
}

// 16 x 16 words turned over.
inline void turn(Words (&x)[LANES]) {
  Words y[LANES];
#pragma GCC unroll 8
  for (int i = 0; i < LANES; i += 2) {
    y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
    y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < LANES; i += 4) {
    x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
    x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
    x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
    x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    y[i] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0x88);
    y[i + 4] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0xdd);
    y[i + 8] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0x88);
    y[i + 12] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0xdd);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    x[i] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0x88);
    x[i + 8] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0xdd);
  }
}

// Rows of numbers, scaled, each padded with zeros to `stride` words.
template <class K>
void lay_rows(uint32_t* to, const typename K::Number* from, int64_t step, const int* which, int n, int width, int stride,
              float scale) {
  const int padded = stride * K::PER_WORD;
  for (int i = 0; i < n; ++i) {
    auto* row = reinterpret_cast<typename K::Number*>(to + i * stride);
    for (int c = 0; c < padded; c += LANES) {
      const Vec x = K::get(from + (which ? which[i] : i) * step + c, first(width - c));
      K::put(row + c, first(padded - c), _mm512_mul_ps(x, _mm512_set1_ps(scale)));
    }
  }
}

// Words (i, c): the numbers of channel c in one row, or in two neighbours.
template <class K>
void lay_words(uint32_t* to, const uint32_t* rows, int stride_rows, int n, int width, int stride) {
  const auto* from = reinterpret_cast<const typename K::Number*>(rows);
  const int step = stride_rows * K::PER_WORD;
  for (int i = 0; i < n; i += K::PER_WORD)
    for (int c = 0; c < stride; c += LANES) {
      const Mask m = first(width - c);
      const Vec low = K::get(from + i * step + c, m);
      Words x = words(low);
      if constexpr (K::PER_WORD == 2) x = K::pair(low, K::get(from + (i + 1) * step + c, i + 1 < n ? m : 0));
      _mm512_mask_storeu_epi32(to + i / K::PER_WORD * stride + c, first(stride - c), x);
    }
}

// Words (w, i) of QUERIES rows (i, w).
inline void lay_across(uint32_t* to, const uint32_t* rows, int stride, int num_words) {
  for (int i = 0; i < QUERIES; i += LANES)
    for (int w = 0; w < num_words; w += LANES) {
      Words x[LANES];
      for (int l = 0; l < LANES; ++l) x[l] = _mm512_maskz_loadu_epi32(first(num_words - w), rows + (i + l) * stride + w);
      turn(x);
      for (int l = 0; l < least(LANES, num_words - w); ++l) _mm512_store_si512(to + (w + l) * QUERIES + i, x[l]);
    }
}

// A tile (channel, query) to rows of numbers, each times its scale.
template <class K>
void hand_over(typename K::Number* to, int64_t step, const float* tile, const float* scale, int num_queries, int width) {
  for (int i = 0; i < num_queries; i += LANES)
    for (int c = 0; c < width; c += LANES) {
      Words x[LANES];
      for (int l = 0; l < LANES; ++l)
        x[l] = c + l < width ? _mm512_load_si512(tile + (c + l) * QUERIES + i) : _mm512_setzero_si512();
      turn(x);
      for (int l = 0; l < least(LANES, num_queries - i); ++l)
        K::put(to + (i + l) * step + c, first(width - c), _mm512_mul_ps(floats(x[l]), _mm512_set1_ps(scale[i + l])));
    }
}

template <class T>
class Buffer {
 public:
  explicit Buffer(size_t n) : data_(static_cast<T*>(std::aligned_alloc(64, (n * sizeof(T) + 63) / 64 * 64))) {
    if (!data_) std::abort();
    std::memset(data_, 0, n * sizeof(T));
  }
  ~Buffer() { std::free(data_); }
  Buffer(const Buffer&) = delete;
  operator T*() { return data_; }

 private:
  T* data_;
};

struct Strides {
  int64_t batch, head, row;  // in numbers; channels lie one after another
};

}  // namespace

// One attention: (B, h, N, d) each, of any strides but the last. Heads `begin` to `end` of the B h are worked on.
struct Attention {
  const void *q, *k, *v;
  const uint8_t* is_key;  // (B, Nk) or null
  void* out;
  float *top, *total;  // (B h, Nq): each query's largest score, in powers of two, and its sum of 2^(score - top)
  const void* grad;    // from here on for the gradient alone; there `top` is top + log2 total
  void *grad_q, *grad_k, *grad_v;
  Strides of_q, of_k, of_v, of_out, of_grad, of_grad_q, of_grad_k, of_grad_v;
  int64_t num_heads, num_queries, num_keys, width, begin, end;
};

namespace {

template <class K>
typename K::Number* at(const void* p, const Strides& s, int64_t batch, int64_t head) {
  return static_cast<typename K::Number*>(const_cast<void*>(p)) + batch * s.batch + head * s.head;
}

int seen_keys(int* which, const Attention& a, int64_t batch) {
  int n = 0;
  for (int j = 0; j < a.num_keys; ++j)
    if (!a.is_key || a.is_key[batch * a.num_keys + j]) which[n++] = j;
  return n;
}

template <class K>
void forward(const Attention& a) {
  const int d = int(a.width), W = (d + K::PER_WORD - 1) / K::PER_WORD, S = up(W, GROUP), C = up(d, GROUP);
  const int nq = int(a.num_queries), padded = up(int(a.num_keys), KEYS);
  const float scale = float(LOG2_E / std::sqrt(double(d)));
  Buffer<uint32_t> k_rows(padded * S), v_rows(padded * S), v_words(padded * C), q_rows(QUERIES * S), across(S * QUERIES);
  Buffer<uint32_t> weights(KEYS * QUERIES);
  Buffer<float> out(C * QUERIES), scores(KEYS * QUERIES), inverse(QUERIES);
  Buffer<int> which(padded);
  for (int64_t head = a.begin; head < a.end; ++head) {
    const int64_t b = head / a.num_heads, h = head % a.num_heads;
    const int n = seen_keys(which, a, b);
    lay_rows<K>(k_rows, at<K>(a.k, a.of_k, b, h), a.of_k.row, which, n, d, S, 1);
    lay_rows<K>(v_rows, at<K>(a.v, a.of_v, b, h), a.of_v.row, which, n, d, S, 1);
    lay_words<K>(v_words, v_rows, S, n, d, C);
    for (int q0 = 0; q0 < nq; q0 += QUERIES) {
      const int m = least(QUERIES, nq - q0);
      lay_rows<K>(q_rows, at<K>(a.q, a.of_q, b, h) + q0 * a.of_q.row, a.of_q.row, nullptr, m, d, S, scale);
      if (m < QUERIES) std::memset(q_rows + m * S, 0, size_t(QUERIES - m) * S * sizeof(uint32_t));
      lay_across(across, q_rows, S, W);
      std::memset(out, 0, size_t(C) * QUERIES * sizeof(float));
      Vec top[ROWS], total[ROWS];
      for (int r = 0; r < ROWS; ++r) top[r] = _mm512_set1_ps(FAR_BELOW), total[r] = _mm512_setzero_ps();
      for (int j0 = 0; j0 < n; j0 += KEYS) {
        const int count = least(KEYS, n - j0);
        Vec highest[ROWS];
        for (int r = 0; r < ROWS; ++r) highest[r] = top[r];
        for (int j = 0; j < count; j += GROUP) {
          Sums sums = {};
          product<K>(sums, across, k_rows + (j0 + j) * S, W, S, 1);
#pragma GCC unroll 4
          for (int g = 0; g < GROUP; ++g)
            if (j + g < count)
#pragma GCC unroll 4
              for (int r = 0; r < ROWS; ++r) {
                highest[r] = _mm512_max_ps(highest[r], sums[g][r]);
                _mm512_store_ps(scores + (j + g) * QUERIES + r * LANES, sums[g][r]);
              }
        }
        for (int r = 0; r < ROWS; ++r)
          if (_mm512_cmp_ps_mask(highest[r], top[r], _CMP_NEQ_UQ)) {
            const Vec shrink = exp2<5>(_mm512_sub_ps(top[r], highest[r]));
            top[r] = highest[r];
            total[r] = _mm512_mul_ps(total[r], shrink);
            for (int c = 0; c < d; ++c) {
              float* here = out + c * QUERIES + r * LANES;
              _mm512_store_ps(here, _mm512_mul_ps(_mm512_load_ps(here), shrink));
            }
          }
        auto weight = [&](int j, int r) {
          return exp2<K::DEGREE>(_mm512_sub_ps(_mm512_load_ps(scores + j * QUERIES + r * LANES), top[r]));
        };
        for (int j = 0; j < count; j += K::PER_WORD)
#pragma GCC unroll 4
          for (int r = 0; r < ROWS; ++r) {
            const Vec one = weight(j, r);
            Words x = words(one);
            total[r] = _mm512_add_ps(total[r], one);
            if constexpr (K::PER_WORD == 2) {
              const Vec two = j + 1 < count ? weight(j + 1, r) : _mm512_setzero_ps();
              total[r] = _mm512_add_ps(total[r], two);
              x = K::pair(one, two);
            }
            _mm512_store_si512(weights + j / K::PER_WORD * QUERIES + r * LANES, x);
          }
        mix<K>(out, weights, v_words + j0 / K::PER_WORD * C, up(count, K::PER_WORD) / K::PER_WORD, C);
      }
      for (int r = 0; r < ROWS; ++r) {
        const Mask here = first(m - r * LANES);
        const int64_t place = head * nq + q0 + r * LANES;
        _mm512_mask_storeu_ps(a.top + place, here, top[r]);
        _mm512_mask_storeu_ps(a.total + place, here, total[r]);
        _mm512_store_ps(inverse + r * LANES, _mm512_div_ps(_mm512_set1_ps(1), total[r]));
      }
      hand_over<K>(at<K>(a.out, a.of_out, b, h) + q0 * a.of_out.row, a.of_out.row, out, inverse, m, d);
    }
  }
}

template <class K, int V>
void backward(const Attention& a) {
  constexpr int KEYS = KEYS_BACK, PER = K::PER_WORD;
  const int d = int(a.width), W = (d + PER - 1) / PER, S = up(W, GROUP), C = up(d, GROUP);
  const int nq = int(a.num_queries), padded = up(int(a.num_keys), KEYS);
  const float scale = float(1 / std::sqrt(double(d)));
  Buffer<uint32_t> k_rows(padded * S), v_rows(padded * S), k_words(padded * C), q_rows(QUERIES * S), g_rows(QUERIES * S);
  Buffer<uint32_t> q_across(S * QUERIES), g_across(S * QUERIES);
  Buffer<uint32_t> q_words(QUERIES * V * LANES), g_words(QUERIES * V * LANES);
  Buffer<uint32_t> weights(KEYS * QUERIES), slopes(KEYS * QUERIES), slope_pairs(KEYS * QUERIES);
  Buffer<float> grad_q(C * QUERIES), grad_k(padded * V * LANES), grad_v(padded * V * LANES);
  Buffer<float> level(QUERIES), inner(QUERIES), scales(QUERIES);
  Buffer<int> which(padded);
  for (int i = 0; i < QUERIES; ++i) scales[i] = scale;
  for (int64_t head = a.begin; head < a.end; ++head) {
    const int64_t b = head / a.num_heads, h = head % a.num_heads;
    const int n = seen_keys(which, a, b);
    lay_rows<K>(k_rows, at<K>(a.k, a.of_k, b, h), a.of_k.row, which, n, d, S, 1);
    lay_rows<K>(v_rows, at<K>(a.v, a.of_v, b, h), a.of_v.row, which, n, d, S, 1);
    lay_words<K>(k_words, k_rows, S, n, d, C);
    std::memset(grad_k, 0, size_t(padded) * V * LANES * sizeof(float));
    std::memset(grad_v, 0, size_t(padded) * V * LANES * sizeof(float));
    for (int q0 = 0; q0 < nq; q0 += QUERIES) {
      const int m = least(QUERIES, nq - q0);
      const auto* grad = at<K>(a.grad, a.of_grad, b, h) + q0 * a.of_grad.row;
      const auto* out = at<K>(a.out, a.of_out, b, h) + q0 * a.of_out.row;
      const auto* q = at<K>(a.q, a.of_q, b, h) + q0 * a.of_q.row;
      lay_rows<K>(q_rows, q, a.of_q.row, nullptr, m, d, S, float(scale * LOG2_E));
      lay_rows<K>(g_rows, grad, a.of_grad.row, nullptr, m, d, S, 1);
      std::memset(q_rows + m * S, 0, size_t(QUERIES - m) * S * sizeof(uint32_t));
      std::memset(g_rows + m * S, 0, size_t(QUERIES - m) * S * sizeof(uint32_t));
      lay_across(q_across, q_rows, S, W);
      lay_across(g_across, g_rows, S, W);
      lay_words<K>(q_words, q_rows, S, QUERIES, d, V * LANES);
      lay_words<K>(g_words, g_rows, S, QUERIES, d, V * LANES);
      for (int i = 0; i < QUERIES; ++i) {
        Vec sum = _mm512_setzero_ps();
        if (i < m)
          for (int c = 0; c < d; c += LANES)
            sum = _mm512_fmadd_ps(K::get(grad + i * a.of_grad.row + c, first(d - c)),
                                  K::get(out + i * a.of_out.row + c, first(d - c)), sum);
        inner[i] = -_mm512_reduce_add_ps(sum);
        level[i] = i < m ? -a.top[head * nq + q0 + i] : 0;
      }
      std::memset(grad_q, 0, size_t(C) * QUERIES * sizeof(float));
      for (int j0 = 0; j0 < n; j0 += KEYS) {
        const int count = least(KEYS, n - j0);
        for (int j = 0; j < up(count, 16); j += 2) {
          TwoKeys weight, slope;
#pragma GCC unroll 8
          for (int i = 0; i < 2 * ROWS; ++i) {
            weight[i / ROWS][i % ROWS] = _mm512_load_ps(level + i % ROWS * LANES);
            slope[i / ROWS][i % ROWS] = _mm512_load_ps(inner + i % ROWS * LANES);
          }
          score_both<K>(weight, slope, q_across, g_across, k_rows + (j0 + j) * S, v_rows + (j0 + j) * S, W, S);
#pragma GCC unroll 2
          for (int g = 0; g < 2; ++g) {
            const bool is_key = j + g < count;
#pragma GCC unroll 4
            for (int r = 0; r < ROWS; ++r) {
              weight[g][r] = exp2<K::DEGREE>(weight[g][r]);
              slope[g][r] = is_key ? _mm512_mul_ps(weight[g][r], slope[g][r]) : _mm512_setzero_ps();
            }
            put_line<K>(weights + (j + g) * QUERIES / PER, weight[g]);
            put_line<K>(slopes + (j + g) * QUERIES / PER, slope[g]);
          }
          if constexpr (PER == 2)
#pragma GCC unroll 4
            for (int r = 0; r < ROWS; ++r)
              _mm512_store_si512(slope_pairs + j / 2 * QUERIES + r * LANES, K::pair(slope[0][r], slope[1][r]));
        }
        mix<K>(grad_q, PER == 1 ? slopes : slope_pairs, k_words + j0 / PER * C, up(count, PER) / PER, C);
        collect<K, V>(grad_v + j0 * V * LANES, weights, g_words, up(count, 16));
        collect<K, V>(grad_k + j0 * V * LANES, slopes, q_words, up(count, 16));
      }
      hand_over<K>(at<K>(a.grad_q, a.of_grad_q, b, h) + q0 * a.of_grad_q.row, a.of_grad_q.row, grad_q, scales, m, d);
    }
    auto *to_k = at<K>(a.grad_k, a.of_grad_k, b, h), *to_v = at<K>(a.grad_v, a.of_grad_v, b, h);
    for (int j = 0; j < n; ++j)
      for (int v = 0; v < V; ++v) {
        const Mask here = first(d - v * LANES);
        const Vec k = _mm512_load_ps(grad_k + (j * V + v) * LANES), value = _mm512_load_ps(grad_v + (j * V + v) * LANES);
        K::put(to_k + which[j] * a.of_grad_k.row + v * LANES, here, _mm512_mul_ps(k, _mm512_set1_ps(float(1 / LOG2_E))));
        K::put(to_v + which[j] * a.of_grad_v.row + v * LANES, here, value);
      }
  }
}

template <class K>
void backward(const Attention& a) {
  switch ((a.width + LANES - 1) / LANES) {
    case 1: return backward<K, 1>(a);
    case 2: return backward<K, 2>(a);
    case 3: return backward<K, 3>(a);
    default: return backward<K, 4>(a);
  }
}

}  // namespace

#ifdef __AVX512BF16__
extern "C" int knows_half() { return 1; }
extern "C" void attention_forward(const Attention* a, int is_half) {
  is_half ? forward<Half>(*a) : forward<Single>(*a);
}
extern "C" void attention_backward(const Attention* a, int is_half) {
  is_half ? backward<Half>(*a) : backward<Single>(*a);
}
#else
extern "C" int knows_half() { return 0; }
extern "C" void attention_forward(const Attention* a, int) { forward<Single>(*a); }
extern "C" void attention_backward(const Attention* a, int) { backward<Single>(*a); }
#endif
