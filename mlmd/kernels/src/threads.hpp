// The threads of OpenMP; one where the compiler has no OpenMP, as Apple's.
#pragma once

#ifdef _OPENMP
#include <omp.h>
#endif

namespace mlmd {

#ifdef _OPENMP
constexpr bool HAS_THREADS = true;
inline int this_thread() { return omp_get_thread_num(); }
inline int threads_together() { return omp_get_num_threads(); }
inline int most_threads() { return omp_get_max_threads(); }
#else
constexpr bool HAS_THREADS = false;
inline int this_thread() { return 0; }
inline int threads_together() { return 1; }
inline int most_threads() { return 1; }
#endif

}  // namespace mlmd
