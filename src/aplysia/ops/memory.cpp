// torch's memory on a CPU, with freed blocks kept for tensors to come; see memory.py, which builds and calls this.
//
// Large tensors lie side by side in one reserved range of addresses. A tensor goes to the smallest free piece that it fits in, and
// pieces that become neighbours become one: so what is freed serves tensors of any size, and pages that were touched once are used
// again. Small tensors go to malloc; in one heap with them, as malloc has it, they would cut every large free piece up.

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <map>
#include <mutex>

namespace {

// Of a tensor that is large, of the pages that the system may use for them, and of what precedes a tensor's numbers.
constexpr size_t LEAST = 1 << 20, PAGE = 1 << 21, AHEAD = 64, STEP = 1 << 12;

// What is written ahead of the numbers.
struct Ahead {
    size_t size;     // of the whole block; 0: malloc's
    size_t counted;  // what the tensor asked for
};

class Kept final : public c10::Allocator {
  public:
    c10::DataPtr allocate(size_t n) override {
        if (n == 0) return {nullptr, nullptr, &give, c10::Device(c10::kCPU)};
        size_t size = n + AHEAD < LEAST ? 0 : (n + AHEAD + STEP - 1) / STEP * STEP;
        char* at = size ? take(size) : nullptr;
        if (at == nullptr) {
            size = 0;
            void* made = nullptr;
            if (posix_memalign(&made, AHEAD, n + AHEAD) == 0) at = static_cast<char*>(made);
        }
        // It says in torch's words what cannot be had.
        if (at == nullptr) return c10::GetDefaultCPUAllocator()->allocate(n);
        *reinterpret_cast<Ahead*>(at) = {size, n};
        void* numbers = at + AHEAD;
        if (c10::memoryProfilingEnabled()) told(numbers, static_cast<int64_t>(n));
        return {numbers, numbers, &give, c10::Device(c10::kCPU)};
    }

    c10::DeleterFnPtr raw_deleter() const override { return &give; }

    void copy_data(void* to, const void* from, size_t count) const override { default_copy_data(to, from, count); }

    // Whether that is possible: the addresses are to be had.
    bool keep(bool on) {
        std::lock_guard<std::mutex> held(lock);
        if (on && range_ == nullptr) reserve();
        keeping_ = on;
        if (!on)
            for (const auto& [at, size] : free_) forget(at, size);
        return range_ != nullptr;
    }

    std::mutex lock;

  private:
    static void give(void* numbers);

    static void told(void* numbers, int64_t change) {
        c10::reportMemoryUsageToProfiler(numbers, change, 0, 0, c10::Device(c10::kCPU));
    }

    // As much as the machine has, of which nothing is used before it is touched: what does not fit in is refused by malloc.
    void reserve() {
        size_t size = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
        size = (size + PAGE - 1) / PAGE * PAGE;
        void* made = mmap(nullptr, size + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (made == MAP_FAILED) return;
        range_ = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(made) + PAGE - 1) / PAGE * PAGE);
        madvise(range_, size, MADV_HUGEPAGE);
        free_[0] = size;
    }

    char* take(size_t size) {
        std::lock_guard<std::mutex> held(lock);
        auto best = free_.end();
        for (auto piece = free_.begin(); piece != free_.end(); ++piece)
            if (piece->second >= size && (best == free_.end() || piece->second < best->second)) best = piece;
        if (best == free_.end()) return nullptr;
        const auto [at, whole] = *best;
        free_.erase(best);
        if (whole > size) free_[at + size] = whole - size;
        return range_ + at;
    }

    void put(char* block, size_t size) {
        std::lock_guard<std::mutex> held(lock);
        size_t at = static_cast<size_t>(block - range_);
        if (!keeping_) forget(at, size);
        const auto next = free_.lower_bound(at);
        if (next != free_.end() && next->first == at + size) {
            size += next->second;
            free_.erase(next);
        }
        const auto after = free_.lower_bound(at);
        if (after != free_.begin()) {
            const auto previous = std::prev(after);
            if (previous->first + previous->second == at) {
                at = previous->first;
                size += previous->second;
                free_.erase(previous);
            }
        }
        free_[at] = size;
    }

    void forget(size_t at, size_t size) { madvise(range_ + at, size, MADV_DONTNEED); }

    char* range_ = nullptr;
    std::map<size_t, size_t> free_;  // by their place in the range
    bool keeping_ = false;
};

// Never taken down: tensors may outlive all else.
Kept& kept() {
    static Kept* made = [] {
        Kept* fresh = new Kept;
        // A process that is forked while another thread allocates must not find the lock taken for ever.
        pthread_atfork(
            [] { kept().lock.lock(); }, [] { kept().lock.unlock(); }, [] { kept().lock.unlock(); }
        );
        return fresh;
    }();
    return *made;
}

void Kept::give(void* numbers) {
    if (numbers == nullptr) return;
    char* at = static_cast<char*>(numbers) - AHEAD;
    const Ahead ahead = *reinterpret_cast<const Ahead*>(at);
    if (c10::memoryProfilingEnabled()) told(numbers, -static_cast<int64_t>(ahead.counted));
    if (ahead.size == 0)
        std::free(at);
    else
        kept().put(at, ahead.size);
}

c10::Allocator* before = nullptr;

}  // namespace

extern "C" {

int keep_memory() {
    if (!kept().keep(true)) return 0;
    before = c10::GetCPUAllocator();
    c10::SetCPUAllocator(&kept());
    return 1;
}

void give_memory_back() {
    c10::SetCPUAllocator(before);
    kept().keep(false);
}

}  // extern "C"
