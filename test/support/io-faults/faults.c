/*
 * Preloaded into a process: one I/O operation on files below FAULT_DIR fails once.
 *
 *   FAULT_KIND  write (EIO), sync (EIO), space (ENOSPC on whatever needs room)
 *   FAULT_AT    which one, counted from 1; 0 none
 *   FAULT_COUNT a file that is told the number of operations at the end
 *
 * A sync that fails takes back what was written since the last one that succeeded, as a kernel that
 * drops its dirty pages does: what was acknowledged without a sync is then gone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#undef fwrite_unlocked
#undef fflush_unlocked

static long count;
static off_t synced[4096];

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int is_kind(const char *kind) {
  const char *wanted = getenv("FAULT_KIND");
  return wanted != NULL && strcmp(wanted, kind) == 0;
}

static int below(const char *path) {
  const char *dir = getenv("FAULT_DIR");
  return dir != NULL && path != NULL && strncmp(path, dir, strlen(dir)) == 0;
}

static int fd_below(int fd) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  return below(path);
}

/* Counts one operation of the kind; true for the one that is to fail. */
static int strikes(void) {
  const char *at = getenv("FAULT_AT");
  long now = __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST);
  return at != NULL && now == atol(at);
}

static int write_fails(int fd) {
  if (!is_kind("write") && !is_kind("space")) return 0;
  if (!fd_below(fd) || !strikes()) return 0;
  errno = is_kind("space") ? ENOSPC : EIO;
  return 1;
}

static int room_fails(const char *path) {
  if (!is_kind("space") || !below(path) || !strikes()) return 0;
  errno = ENOSPC;
  return 1;
}

static int sync_fails(int fd) {
  struct stat info;
  if (!is_kind("sync") || !fd_below(fd)) return 0;
  int regular = fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && fd < 4096;
  if (!strikes()) {
    if (regular) synced[fd] = info.st_size;
    return 0;
  }
  if (regular && synced[fd] < info.st_size && ftruncate(fd, synced[fd]) != 0) abort();
  errno = EIO;
  return 1;
}

ssize_t write(int fd, const void *bytes, size_t length) {
  return write_fails(fd) ? -1 : REAL(write)(fd, bytes, length);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
  return write_fails(fd) ? -1 : REAL(pwrite)(fd, bytes, length, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t at) {
  return write_fails(fd) ? -1 : REAL(pwrite64)(fd, bytes, length, at);
}

ssize_t writev(int fd, const struct iovec *parts, int length) {
  return write_fails(fd) ? -1 : REAL(writev)(fd, parts, length);
}

/* LevelDB writes by stdio; its log for people (LOG) may fail without anybody noticing. */
static int stream_fails(FILE *file) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fileno(file));
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 4 || memcmp(path + length - 4, "/LOG", 4) == 0) return 0;
  return write_fails(fileno(file));
}

size_t fwrite(const void *bytes, size_t size, size_t parts, FILE *file) {
  return stream_fails(file) ? 0 : REAL(fwrite)(bytes, size, parts, file);
}

size_t fwrite_unlocked(const void *bytes, size_t size, size_t parts, FILE *file) {
  return stream_fails(file) ? 0 : REAL(fwrite_unlocked)(bytes, size, parts, file);
}

int fflush(FILE *file) {
  return file != NULL && stream_fails(file) ? EOF : REAL(fflush)(file);
}

int fflush_unlocked(FILE *file) {
  return file != NULL && stream_fails(file) ? EOF : REAL(fflush_unlocked)(file);
}

int fsync(int fd) { return sync_fails(fd) ? -1 : REAL(fsync)(fd); }

int fdatasync(int fd) { return sync_fails(fd) ? -1 : REAL(fdatasync)(fd); }

int rename(const char *from, const char *to) {
  return room_fails(to) ? -1 : REAL(rename)(from, to);
}

int mkdir(const char *path, mode_t mode) { return room_fails(path) ? -1 : REAL(mkdir)(path, mode); }

int link(const char *from, const char *to) { return room_fails(to) ? -1 : REAL(link)(from, to); }

static int open_any(const char *name, const char *path, int flags, mode_t mode) {
  if ((flags & O_CREAT) && room_fails(path)) return -1;
  int (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, name);
  int fd = real(path, flags, mode);
  struct stat info;
  if (fd >= 0 && fd < 4096) synced[fd] = fstat(fd, &info) == 0 ? info.st_size : 0;
  return fd;
}

#define MODE_OF(flags, mode)                                                                       \
  mode_t mode = 0;                                                                                 \
  if ((flags) & O_CREAT) {                                                                         \
    va_list rest;                                                                                  \
    va_start(rest, flags);                                                                         \
    mode = va_arg(rest, mode_t);                                                                   \
    va_end(rest);                                                                                  \
  }

int open(const char *path, int flags, ...) {
  MODE_OF(flags, mode)
  return open_any("open", path, flags, mode);
}

int open64(const char *path, int flags, ...) {
  MODE_OF(flags, mode)
  return open_any("open64", path, flags, mode);
}

__attribute__((destructor)) static void tell(void) {
  const char *path = getenv("FAULT_COUNT");
  if (path == NULL) return;
  FILE *file = fopen(path, "w");
  if (file == NULL) return;
  fprintf(file, "%ld\n", count);
  fclose(file);
}
