// Fused multiply-adds of vectors in registers, as many as the processor can: what a kernel's speed is a fraction of.
// Compiled by one_network.py with -DVB=<bytes of a vector>.
#include <ctime>

// Seconds: of the processor for one thread, which other processes disturb less, by the clock for more.
static double now(int threads) {
  timespec t;
  clock_gettime(threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

template <class T>
static double gflops(int threads) {
  typedef T V __attribute__((vector_size(VB)));
  constexpr int CHAINS = 12, LANES = VB / sizeof(T);
  constexpr long TURNS = 400000;
  double best = 0, sink = 0;
  for (int repeat = 0; repeat < 50; repeat++) {
    const double start = now(threads);
#pragma omp parallel num_threads(threads) reduction(+ : sink)
    {
      V a[CHAINS], b = V{} + T(0.999), c = V{} + T(1e-3);
      for (int k = 0; k < CHAINS; k++) a[k] = V{} + T(0.1) * T(k);
      for (long turn = 0; turn < TURNS; turn++) {
#pragma GCC unroll 12
        for (int k = 0; k < CHAINS; k++) a[k] = a[k] * b + c;
        for (int k = 0; k < CHAINS; k++) asm volatile("" : "+x"(a[k]));
      }
      for (int k = 0; k < CHAINS; k++) sink += double(a[k][0]);
    }
    const double rate = 2e-9 * CHAINS * LANES * TURNS * threads / (now(threads) - start);
    if (rate > best) best = rate;
  }
  return sink == 12345 ? 0 : best;
}

extern "C" double peak_f64(int threads) { return gflops<double>(threads); }
extern "C" double peak_f32(int threads) { return gflops<float>(threads); }
