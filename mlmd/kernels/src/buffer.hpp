// Memory for numbers.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

namespace mlmd {

// An array that is aligned for vectors and whose elements are not touched when it is made.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t size) { reserve(size); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  Buffer(Buffer&& other) noexcept : data_(other.data_), size_(other.size_) { other.data_ = nullptr, other.size_ = 0; }
  ~Buffer() { std::free(data_); }

  // Room for n elements at least. Loses what was in it when it grows; throws std::bad_alloc.
  void reserve(std::size_t n) {
    if (n <= size_) return;
    std::free(data_);
    data_ = nullptr, size_ = 0;
    data_ = allocate(n);
    size_ = n;
  }
  // The same, but keeps it, and makes room for some more when it has to move.
  void grow(std::size_t n, std::size_t room) {
    if (n <= size_) return;
    room = std::max(n, room);
    T* const memory = allocate(room);
    if (size_) std::memcpy(memory, data_, size_ * sizeof(T));
    std::free(data_);
    data_ = memory, size_ = room;
  }
  T* data() { return data_; }
  const T* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::size_t bytes() const { return size_ * sizeof(T); }
  T& operator[](std::size_t i) { return data_[i]; }
  const T& operator[](std::size_t i) const { return data_[i]; }

 private:
  static T* allocate(std::size_t n) {
    constexpr std::size_t line = 64;
    if (n > (std::numeric_limits<std::size_t>::max() >> 1) / sizeof(T)) throw std::bad_alloc();
    void* const memory = std::aligned_alloc(line, (n * sizeof(T) + line - 1) / line * line);
    if (!memory) throw std::bad_alloc();
    return static_cast<T*>(memory);
  }

  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace mlmd
