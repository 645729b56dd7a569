// Beginning of the same program for a CPU: what tests compare without a GPU. Groups of LANES threads come one after the
// other; the threads of one take turns, each as far as the next place where they exchange something.
#include <cmath>
#include <cstring>
#include <ucontext.h>

#define MLMD_INLINE inline
#define KERNEL(name)                                                                         \
  static void name##_of_thread(const Frame& f);                                              \
  extern "C" void name(const Frame* frame, long long n_threads) {                            \
    host::in_groups([](const void* f) { name##_of_thread(*(const Frame*)f); }, frame, n_threads); \
  }                                                                                          \
  static void name##_of_thread(const Frame& f)

namespace host {

static long long first = 0;  // thread of the group
static int lane = 0;
static ucontext_t turns, lanes[LANES];
static bool ended[LANES];
static double given[LANES];  // what lanes show each other
static char stacks[LANES][1 << 18];
static void (*body)(const void*);
static const void* argument;

static void run() {
  body(argument);
  ended[lane] = true;
}

// Lets the other lanes come as far
static void wait() {
  if (LANES > 1) swapcontext(&lanes[lane], &turns);
}

static void in_groups(void (*kernel)(const void*), const void* frame, long long n_threads) {
  body = kernel, argument = frame;
  for (first = 0; first < n_threads; first += LANES) {
    for (lane = 0; lane < LANES; lane++) {
      ended[lane] = false;
      getcontext(&lanes[lane]);
      lanes[lane].uc_stack.ss_sp = stacks[lane], lanes[lane].uc_stack.ss_size = sizeof stacks[lane];
      lanes[lane].uc_link = &turns;
      makecontext(&lanes[lane], run, 0);
    }
    for (bool more = true; more;) {
      more = false;
      for (lane = 0; lane < LANES; lane++)
        if (!ended[lane]) swapcontext(&turns, &lanes[lane]), more = more || !ended[lane];
    }
  }
}

}  // namespace host

inline long long thread() { return host::first + host::lane; }

template <class T>
inline T from_lane(T x, int step) {
  host::given[host::lane] = x;
  host::wait();
  const T found = T(host::given[host::lane ^ step]);
  host::wait();
  return found;
}
#define SHARED(name, size)          \
  static real name##_of_all[size]; \
  real* const name = name##_of_all
inline void meet() { host::wait(); }
inline unsigned votes(bool yes) {
  unsigned bits = 0;
  host::given[host::lane] = yes;
  host::wait();
  for (int k = 0; k < LANES; k++) bits |= (host::given[k] != 0) << k;
  host::wait();
  return bits;
}
inline int n_set(unsigned bits) { return __builtin_popcount(bits); }
inline void raise(double* highest, double square) {
  if (*highest == *highest && !(square <= *highest)) *highest = square;  // what is not a number stays
}

template <class T>
inline void half_wave(T y, T& sine, T& cosine) {
  sine = std::sin(T(1.57079632679489661923) * y), cosine = std::cos(T(1.57079632679489661923) * y);
}
template <class T>
inline T root(T x) {
  return std::sqrt(x);
}
template <class T>
inline T exponential(T x) {
  return std::exp(x);
}
