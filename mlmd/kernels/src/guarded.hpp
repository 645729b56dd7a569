// What has gone wrong, in numbers and words: no exception may reach C or Python.
#pragma once

#include <cstring>
#include <functional>
#include <new>

#include "reader.hpp"

namespace mlmd {

// As in kernels/status.py
enum Status { OK = 0, BAD_CONFIGURATION = 1, BAD_PARAMETERS = 2, NO_MEMORY = 3, FAILURE = 4 };

// What was thrown, as a number and words
inline int guarded(char* message, std::int64_t size, const std::function<void()>& work) {
  auto say = [&](const char* words) {
    if (message && size > 0) std::strncpy(message, words, size - 1), message[size - 1] = 0;
  };
  try {
    work();
    return OK;
  } catch (const BadParameters& error) {
    say(error.what());
    return BAD_PARAMETERS;
  } catch (const std::bad_alloc&) {
    say("out of memory");
    return NO_MEMORY;
  } catch (const std::exception& error) {
    say(error.what());
    return FAILURE;
  } catch (...) {
    say("unknown failure");
    return FAILURE;
  }
}

}  // namespace mlmd
