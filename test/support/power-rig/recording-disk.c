/*
 * A disk in memory as one FUSE file that records, in one order, what is done to it:
 *
 *   MOUNTPOINT/disk   the block device's file, to be put under a loop device
 *   MOUNTPOINT/marks  append-only; what is written here is recorded among the writes
 *
 * recording-disk LOG BYTES MOUNTPOINT
 *
 * The log holds records of one byte of kind, u64 offset, u32 length (both little-endian) and the
 * bytes: 'W' a write, 'F' a flush (what was written before it is safe), 'M' a mark. One thread
 * serves all requests, so the order of the log is the order in which they were answered.
 */
#define FUSE_USE_VERSION 31
#define _GNU_SOURCE
#include <errno.h>
#include <fuse.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static FILE *log_file;
static char *disk;
static uint64_t disk_bytes;

static int is_disk(const char *path) { return strcmp(path, "/disk") == 0; }
static int is_marks(const char *path) { return strcmp(path, "/marks") == 0; }

static int record(char kind, uint64_t offset, const char *bytes, uint32_t length) {
  int ok = fwrite(&kind, 1, 1, log_file) == 1 && fwrite(&offset, 8, 1, log_file) == 1 &&
           fwrite(&length, 4, 1, log_file) == 1 &&
           (length == 0 || fwrite(bytes, length, 1, log_file) == 1);
  return ok ? 0 : -EIO;
}

static int do_getattr(const char *path, struct stat *st, struct fuse_file_info *info) {
  (void)info;
  memset(st, 0, sizeof *st);
  if (strcmp(path, "/") == 0) {
    st->st_mode = S_IFDIR | 0755;
    st->st_nlink = 2;
    return 0;
  }
  if (!is_disk(path) && !is_marks(path)) return -ENOENT;
  st->st_mode = S_IFREG | 0600;
  st->st_nlink = 1;
  st->st_size = is_disk(path) ? (off_t)disk_bytes : 0;
  return 0;
}

static int do_open(const char *path, struct fuse_file_info *info) {
  if (is_marks(path)) info->direct_io = 1;
  return is_disk(path) || is_marks(path) ? 0 : -ENOENT;
}

static int do_truncate(const char *path, off_t size, struct fuse_file_info *info) {
  (void)info;
  return is_marks(path) || (uint64_t)size == disk_bytes ? 0 : -EPERM;
}

static int do_read(const char *path, char *to, size_t length, off_t offset,
                   struct fuse_file_info *info) {
  (void)info;
  if (!is_disk(path) || (uint64_t)offset >= disk_bytes) return 0;
  if (length > disk_bytes - (uint64_t)offset) length = disk_bytes - (uint64_t)offset;
  memcpy(to, disk + offset, length);
  return (int)length;
}

static int do_write(const char *path, const char *from, size_t length, off_t offset,
                    struct fuse_file_info *info) {
  (void)info;
  if (is_marks(path)) {
    int failed = record('M', 0, from, (uint32_t)length);
    return failed ? failed : (int)length;
  }
  if (!is_disk(path)) return -ENOENT;
  if ((uint64_t)offset + length > disk_bytes) return -ENOSPC;
  int failed = record('W', (uint64_t)offset, from, (uint32_t)length);
  if (failed) return failed;
  memcpy(disk + offset, from, length);
  return (int)length;
}

static int do_fsync(const char *path, int data_only, struct fuse_file_info *info) {
  (void)data_only;
  (void)info;
  return is_disk(path) ? record('F', 0, NULL, 0) : 0;
}

static void do_destroy(void *data) {
  (void)data;
  fclose(log_file);
}

static const struct fuse_operations operations = {
    .getattr = do_getattr,
    .open = do_open,
    .truncate = do_truncate,
    .read = do_read,
    .write = do_write,
    .fsync = do_fsync,
    .destroy = do_destroy,
};

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  log_file = fopen(argv[1], "wb");
  disk_bytes = strtoull(argv[2], NULL, 10);
  disk = calloc(1, disk_bytes);
  if (!log_file || !disk) return 1;
  char *arguments[] = {argv[0], "-f", "-s", argv[3]};
  return fuse_main(4, arguments, &operations, NULL);
}
