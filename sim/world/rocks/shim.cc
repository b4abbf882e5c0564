// RocksDB's operating system, with every call forwarded to a table of Rust functions.
//
// One thread enters here at a time. Background jobs are only queued (`Schedule`) and run when the caller
// says so (`sim_rocks_run_jobs`); no thread is ever started. RocksDB's one process-wide timer thread is
// replaced as well: see the end of this file.

#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "db/periodic_task_scheduler.h"
#include "env/composite_env_wrapper.h"
#include "rocksdb/env.h"
#include "rocksdb/file_system.h"
#include "rocksdb/system_clock.h"
#include "util/random.h"

using namespace rocksdb;  // NOLINT: one file, nothing else in it

extern "C" {

// Mirrors `Calls` in rocks.rs, field by field. Every function returns a `Code`.
struct SimCalls {
  int32_t (*open)(void* host, const char* path, size_t path_length, int32_t mode, void** file);
  void (*close)(void* file);
  int32_t (*read)(void* file, uint64_t offset, char* buffer, size_t length, size_t* got);
  int32_t (*write)(void* file, uint64_t offset, const char* data, size_t length);
  int32_t (*truncate)(void* file, uint64_t length);
  int32_t (*sync)(void* file);
  int32_t (*length)(void* file, uint64_t* length);
  int32_t (*path)(void* host, int32_t verb, const char* path, size_t path_length, uint64_t* out);
  int32_t (*rename)(void* host, const char* from, size_t from_length, const char* to, size_t to_length);
  int32_t (*list)(void* host, const char* path, size_t path_length, void* names,
                  void (*name)(void* names, const char* name, size_t name_length));
  int32_t (*lock)(void* host, const char* path, size_t path_length, void** lock);
  void (*unlock)(void* lock);
  uint64_t (*now_ns)(void* host, int32_t wall);
  void (*drop)(void* host);
};

// The layout that `rocksdb_env_destroy` of RocksDB's C interface expects.
struct SimEnvHandle {
  Env* rep;
  bool is_default;
};
}

namespace {

enum Code : int32_t { kDone = 0, kMissing = 1, kFailed = 2, kTaken = 3, kNoRoom = 4 };
enum Mode : int32_t { kRead = 0, kCreate = 1, kAppend = 2 };
enum Verb : int32_t {
  kExists = 0, kRemove = 1, kMakeDir = 2, kMakeDirIfMissing = 3, kRemoveDir = 4,
  kSize = 5, kModified = 6, kSyncDir = 7, kIsDir = 8,
};

IOStatus Judge(int32_t code, const std::string& path) {
  switch (code) {
    case kDone: return IOStatus::OK();
    case kMissing: return IOStatus::PathNotFound(path, "no such file or directory");
    case kTaken: return IOStatus::Busy(path, "taken");
    // Not NoSpace: for that RocksDB starts a thread of the machine's, which waits for room beside the world and its
    // clock. The server gives up at the first error all the same.
    case kNoRoom: return IOStatus::IOError(path, "no space left on device");
    default: return IOStatus::IOError(path, "input/output error");
  }
}

// The Rust side of one environment; dropped with the last object that may still call it.
struct Host {
  SimCalls calls;
  void* host;
  Host(const SimCalls& c, void* h) : calls(c), host(h) {}
  ~Host() { calls.drop(host); }
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  IOStatus Path(Verb verb, const std::string& path, uint64_t* out = nullptr) const {
    uint64_t unused = 0;
    return Judge(calls.path(host, verb, path.data(), path.size(), out ? out : &unused), path);
  }
};
using HostPtr = std::shared_ptr<Host>;

// An open file and its name, for messages.
struct Handle {
  HostPtr host;
  std::string path;
  void* file = nullptr;
  ~Handle() { Close(); }

  static IOStatus Open(const HostPtr& host, const std::string& path, Mode mode, Handle* handle) {
    handle->host = host;
    handle->path = path;
    return Judge(host->calls.open(host->host, path.data(), path.size(), mode, &handle->file), path);
  }
  void Close() {
    if (file != nullptr) host->calls.close(file);
    file = nullptr;
  }
  IOStatus Read(uint64_t offset, size_t n, Slice* result, char* scratch) const {
    size_t got = 0;
    IOStatus s = Judge(host->calls.read(file, offset, scratch, n, &got), path);
    *result = Slice(scratch, s.ok() ? got : 0);
    return s;
  }
  IOStatus Length(uint64_t* length) const { return Judge(host->calls.length(file, length), path); }
};

class SequentialFile : public FSSequentialFile {
 public:
  Handle handle;
  IOStatus Read(size_t n, const IOOptions&, Slice* result, char* scratch, IODebugContext*) override {
    IOStatus s = handle.Read(offset_, n, result, scratch);
    offset_ += result->size();
    return s;
  }
  IOStatus Skip(uint64_t n) override {
    offset_ += n;
    return IOStatus::OK();
  }
  IOStatus InvalidateCache(size_t, size_t) override { return IOStatus::OK(); }

 private:
  uint64_t offset_ = 0;
};

class RandomFile : public FSRandomAccessFile {
 public:
  Handle handle;
  IOStatus Read(uint64_t offset, size_t n, const IOOptions&, Slice* result, char* scratch,
                IODebugContext*) const override {
    return handle.Read(offset, n, result, scratch);
  }
  IOStatus Prefetch(uint64_t, size_t, const IOOptions&, IODebugContext*) override {
    return IOStatus::OK();
  }
  IOStatus GetFileSize(uint64_t* length) override { return handle.Length(length); }
  IOStatus InvalidateCache(size_t, size_t) override { return IOStatus::OK(); }
};

class WritableFile : public FSWritableFile {
 public:
  Handle handle;
  uint64_t length = 0;
  using FSWritableFile::Append;
  using FSWritableFile::PositionedAppend;
  IOStatus Append(const Slice& data, const IOOptions&, IODebugContext*) override {
    IOStatus s = Judge(handle.host->calls.write(handle.file, length, data.data(), data.size()), handle.path);
    if (s.ok()) length += data.size();
    return s;
  }
  IOStatus PositionedAppend(const Slice& data, uint64_t offset, const IOOptions&,
                            IODebugContext*) override {
    IOStatus s = Judge(handle.host->calls.write(handle.file, offset, data.data(), data.size()), handle.path);
    if (s.ok() && length < offset + data.size()) length = offset + data.size();
    return s;
  }
  IOStatus Truncate(uint64_t size, const IOOptions&, IODebugContext*) override {
    if (size == length) return IOStatus::OK();  // WritableFileWriter::Close always truncates
    IOStatus s = Judge(handle.host->calls.truncate(handle.file, size), handle.path);
    if (s.ok()) length = size;
    return s;
  }
  IOStatus Close(const IOOptions&, IODebugContext*) override {
    handle.Close();
    return IOStatus::OK();
  }
  IOStatus Flush(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }
  IOStatus Sync(const IOOptions&, IODebugContext*) override {
    return Judge(handle.host->calls.sync(handle.file), handle.path);
  }
  bool IsSyncThreadSafe() const override { return true; }
  uint64_t GetFileSize(const IOOptions&, IODebugContext*) override { return length; }
  IOStatus RangeSync(uint64_t, uint64_t, const IOOptions&, IODebugContext*) override {
    return IOStatus::OK();
  }
  void PrepareWrite(size_t, size_t, const IOOptions&, IODebugContext*) override {}
  IOStatus Allocate(uint64_t, uint64_t, const IOOptions&, IODebugContext*) override {
    return IOStatus::OK();
  }
  IOStatus InvalidateCache(size_t, size_t) override { return IOStatus::OK(); }
};

class Directory : public FSDirectory {
 public:
  Directory(HostPtr host, std::string path) : host_(std::move(host)), path_(std::move(path)) {}
  IOStatus Fsync(const IOOptions&, IODebugContext*) override { return host_->Path(kSyncDir, path_); }
  IOStatus Close(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }

 private:
  HostPtr host_;
  std::string path_;
};

struct Lock : public FileLock {
  HostPtr host;
  void* lock = nullptr;
  ~Lock() override {
    if (lock != nullptr) host->calls.unlock(lock);
  }
};

class NoLogger : public Logger {
 public:
  NoLogger() : Logger(InfoLogLevel::FATAL_LEVEL) {}
  using Logger::Logv;
  void Logv(const char*, va_list) override {}
  void Logv(const InfoLogLevel, const char*, va_list) override {}
  void SetInfoLogLevel(const InfoLogLevel) override {}  // stays silent whatever the options say

 protected:
  Status CloseImpl() override { return Status::OK(); }
};

class SimFileSystem : public FileSystem {
 public:
  explicit SimFileSystem(HostPtr host) : host_(std::move(host)) {}
  const char* Name() const override { return "SimFileSystem"; }

  IOStatus NewSequentialFile(const std::string& path, const FileOptions&,
                             std::unique_ptr<FSSequentialFile>* result, IODebugContext*) override {
    return Open<SequentialFile>(path, kRead, result, [](SequentialFile*) { return IOStatus::OK(); });
  }
  IOStatus NewRandomAccessFile(const std::string& path, const FileOptions&,
                               std::unique_ptr<FSRandomAccessFile>* result, IODebugContext*) override {
    return Open<RandomFile>(path, kRead, result, [](RandomFile*) { return IOStatus::OK(); });
  }
  IOStatus NewWritableFile(const std::string& path, const FileOptions&,
                           std::unique_ptr<FSWritableFile>* result, IODebugContext*) override {
    return Open<WritableFile>(path, kCreate, result, [](WritableFile*) { return IOStatus::OK(); });
  }
  IOStatus ReopenWritableFile(const std::string& path, const FileOptions&,
                              std::unique_ptr<FSWritableFile>* result, IODebugContext*) override {
    return Open<WritableFile>(path, kAppend, result,
                              [](WritableFile* file) { return file->handle.Length(&file->length); });
  }
  IOStatus NewDirectory(const std::string& path, const IOOptions&, std::unique_ptr<FSDirectory>* result,
                        IODebugContext*) override {
    IOStatus s = host_->Path(kExists, path);
    if (s.ok()) result->reset(new Directory(host_, path));
    return s;
  }
  IOStatus FileExists(const std::string& path, const IOOptions&, IODebugContext*) override {
    IOStatus s = host_->Path(kExists, path);
    return s.IsPathNotFound() ? IOStatus::NotFound(path) : s;
  }
  IOStatus GetChildren(const std::string& path, const IOOptions&, std::vector<std::string>* names,
                       IODebugContext*) override {
    names->clear();
    auto add = [](void* list, const char* name, size_t length) {
      static_cast<std::vector<std::string>*>(list)->emplace_back(name, length);
    };
    return Judge(host_->calls.list(host_->host, path.data(), path.size(), names, add), path);
  }
  IOStatus DeleteFile(const std::string& path, const IOOptions&, IODebugContext*) override {
    return host_->Path(kRemove, path);
  }
  IOStatus Truncate(const std::string& path, size_t size, const IOOptions&, IODebugContext*) override {
    Handle handle;
    IOStatus s = Handle::Open(host_, path, kAppend, &handle);
    return s.ok() ? Judge(host_->calls.truncate(handle.file, size), path) : s;
  }
  IOStatus CreateDir(const std::string& path, const IOOptions&, IODebugContext*) override {
    return host_->Path(kMakeDir, path);
  }
  IOStatus CreateDirIfMissing(const std::string& path, const IOOptions&, IODebugContext*) override {
    return host_->Path(kMakeDirIfMissing, path);
  }
  IOStatus DeleteDir(const std::string& path, const IOOptions&, IODebugContext*) override {
    return host_->Path(kRemoveDir, path);
  }
  IOStatus GetFileSize(const std::string& path, const IOOptions&, uint64_t* size,
                       IODebugContext*) override {
    return host_->Path(kSize, path, size);
  }
  IOStatus GetFileModificationTime(const std::string& path, const IOOptions&, uint64_t* seconds,
                                   IODebugContext*) override {
    return host_->Path(kModified, path, seconds);
  }
  IOStatus RenameFile(const std::string& from, const std::string& to, const IOOptions&,
                      IODebugContext*) override {
    return Judge(host_->calls.rename(host_->host, from.data(), from.size(), to.data(), to.size()), from);
  }
  IOStatus AreFilesSame(const std::string& first, const std::string& second, const IOOptions&, bool* same,
                        IODebugContext*) override {
    *same = first == second;  // no links here
    return IOStatus::OK();
  }
  IOStatus LockFile(const std::string& path, const IOOptions&, FileLock** result,
                    IODebugContext*) override {
    auto lock = std::make_unique<Lock>();
    lock->host = host_;
    IOStatus s = Judge(host_->calls.lock(host_->host, path.data(), path.size(), &lock->lock), path);
    *result = s.ok() ? lock.release() : nullptr;
    return s;
  }
  IOStatus UnlockFile(FileLock* lock, const IOOptions&, IODebugContext*) override {
    delete lock;
    return IOStatus::OK();
  }
  IOStatus GetTestDirectory(const IOOptions&, std::string* path, IODebugContext*) override {
    *path = "/test";
    return IOStatus::OK();
  }
  IOStatus NewLogger(const std::string&, const IOOptions&, std::shared_ptr<Logger>* result,
                     IODebugContext*) override {
    *result = std::make_shared<NoLogger>();
    return IOStatus::OK();
  }
  IOStatus GetAbsolutePath(const std::string& path, const IOOptions&, std::string* absolute,
                           IODebugContext*) override {
    *absolute = !path.empty() && path[0] == '/' ? path : "/" + path;
    return IOStatus::OK();
  }
  IOStatus GetFreeSpace(const std::string&, const IOOptions&, uint64_t* bytes, IODebugContext*) override {
    *bytes = uint64_t{1} << 40;
    return IOStatus::OK();
  }
  IOStatus IsDirectory(const std::string& path, const IOOptions&, bool* is_dir, IODebugContext*) override {
    uint64_t answer = 0;
    IOStatus s = host_->Path(kIsDir, path, &answer);
    *is_dir = answer != 0;
    return s;
  }
  void SupportedOps(int64_t& ops) override { ops = 0; }  // neither asynchronous reads nor prefetch

 private:
  template <class File, class Base, class Ready>
  IOStatus Open(const std::string& path, Mode mode, std::unique_ptr<Base>* result, Ready ready) {
    auto file = std::make_unique<File>();
    IOStatus s = Handle::Open(host_, path, mode, &file->handle);
    if (s.ok()) s = ready(file.get());
    if (s.ok()) *result = std::move(file);
    return s;
  }
  HostPtr host_;
};

class SimClock : public SystemClock {
 public:
  explicit SimClock(HostPtr host) : host_(std::move(host)) {}
  const char* Name() const override { return "SimClock"; }
  uint64_t NowMicros() override { return host_->calls.now_ns(host_->host, 1) / 1000; }
  uint64_t NowNanos() override { return host_->calls.now_ns(host_->host, 0); }
  void SleepForMicroseconds(int) override {}  // time stands still during a call
  bool TimedWait(port::CondVar*, std::chrono::microseconds) override { return true; }
  Status GetCurrentTime(int64_t* seconds) override {
    *seconds = static_cast<int64_t>(host_->calls.now_ns(host_->host, 1) / 1000000000);
    return Status::OK();
  }
  std::string TimeToString(uint64_t seconds) override { return std::to_string(seconds); }

 private:
  HostPtr host_;
};

class SimEnv : public CompositeEnvWrapper {
 public:
  explicit SimEnv(const HostPtr& host)
      : CompositeEnvWrapper(Env::Default(), std::make_shared<SimFileSystem>(host),
                            std::make_shared<SimClock>(host)) {}
  const char* Name() const override { return "SimEnv"; }

  void Schedule(void (*run)(void*), void* arg, Priority priority, void* tag, void (*cancel)(void*)) override {
    jobs_.push_back(Job{run, arg, priority, tag, cancel});
  }
  int UnSchedule(void* tag, Priority priority) override {
    int removed = 0;
    for (auto job = jobs_.begin(); job != jobs_.end();) {
      if (job->tag != tag || job->priority != priority) {
        ++job;
        continue;
      }
      Job gone = *job;
      job = jobs_.erase(job);
      if (gone.cancel != nullptr) gone.cancel(gone.arg);
      ++removed;
    }
    return removed;
  }
  void StartThread(void (*run)(void*), void* arg) override { Schedule(run, arg, LOW, nullptr, nullptr); }
  void WaitForJoin() override {}
  unsigned int GetThreadPoolQueueLen(Priority) const override {
    return static_cast<unsigned int>(jobs_.size());
  }
  int ReserveThreads(int, Priority) override { return 0; }
  int ReleaseThreads(int, Priority) override { return 0; }
  void SetBackgroundThreads(int, Priority) override {}
  int GetBackgroundThreads(Priority) override { return 1; }
  void IncBackgroundThreadsIfNeeded(int, Priority) override {}
  void LowerThreadPoolIOPriority(Priority) override {}
  void LowerThreadPoolCPUPriority(Priority) override {}
  Status LowerThreadPoolCPUPriority(Priority, CpuPriority) override { return Status::OK(); }
  Status GetThreadList(std::vector<ThreadStatus>* list) override {
    list->clear();
    return Status::OK();
  }
  uint64_t GetThreadID() const override { return 1; }
  std::string GenerateUniqueId() override { return "00000000-0000-4000-8000-000000000000"; }

  uint64_t QueuedJobs() const { return jobs_.size(); }

  uint64_t RunJobs() {
    uint64_t count = 0;
    while (!jobs_.empty()) {
      Job job = jobs_.front();
      jobs_.pop_front();
      job.run(job.arg);
      ++count;
    }
    return count;
  }

 private:
  struct Job {
    void (*run)(void*);
    void* arg;
    Priority priority;
    void* tag;
    void (*cancel)(void*);
  };
  std::deque<Job> jobs_;
};

}  // namespace

// RocksDB starts one timer thread for the process and runs housekeeping of every database on it, by a clock
// that this world does not have. These definitions stand in for `db/periodic_task_scheduler.cc`, which the
// linker then leaves out: nothing is registered and no thread is started.
namespace ROCKSDB_NAMESPACE {
Status PeriodicTaskScheduler::Register(PeriodicTaskType, const PeriodicTaskFunc&, bool) { return Status::OK(); }
Status PeriodicTaskScheduler::Register(PeriodicTaskType, const PeriodicTaskFunc&, uint64_t, bool) {
  return Status::OK();
}
Status PeriodicTaskScheduler::Unregister(PeriodicTaskType) { return Status::OK(); }
Timer* PeriodicTaskScheduler::Default() { return nullptr; }
}  // namespace ROCKSDB_NAMESPACE

extern "C" {

// A new environment over `calls`; owns `host`. To be wrapped by `rocksdb::Env::from_raw`, which frees it.
SimEnvHandle* sim_rocks_env_new(const SimCalls* calls, void* host) {
  auto shared = std::make_shared<Host>(*calls, host);
  return new SimEnvHandle{new SimEnv(shared), false};
}

// How many jobs are queued.
uint64_t sim_rocks_jobs(SimEnvHandle* handle) { return static_cast<SimEnv*>(handle->rep)->QueuedJobs(); }

// Runs queued jobs until none is left; answers how many ran.
uint64_t sim_rocks_run_jobs(SimEnvHandle* handle) { return static_cast<SimEnv*>(handle->rep)->RunJobs(); }

// Seeds the dice of this thread: the memtable's heights, and whatever else asks `Random::GetTLSInstance`.
void sim_rocks_seed(uint32_t seed) { Random::GetTLSInstance()->Reset(seed); }
}
