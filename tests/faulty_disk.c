/* A disk that fails on purpose: preloaded into a process, it stands between the store and the kernel.
 *
 * Every write, sync, allocation, cut and removal of a file whose name holds "gateway.sqlite3" is one operation. The operation numbered
 * `at` fails, or the machine does, in the way `kind` says. So that a power cut can be shown, what was written and not
 * synced is kept and can be undone. After a failed sync it stays undone by later ones, as Linux has it: the pages count as
 * clean and are never written.
 *
 * One thread at a time is in here, from the first to the last step of an operation: what another one does comes before or
 * after it.
 *
 * What it does not show: removals and new names are on disk at once.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { NONE, EIO_ONCE, EIO_ON, ENOSPC_ONCE, ENOSPC_ON, SHORT, KILL, KILL_TORN, POWER, POWER_TORN };
enum state { PENDING, DURABLE, LOST };

struct step {
    struct step *before, *after;
    enum state state;
    int is_cut;
    off_t at, size_before; /* a cut's `at` is the new size */
    size_t length, old_length;
    unsigned char *data, *old;
};
struct file {
    char path[512];
    struct step *first, *last;
};

#define FILES_MAX 64
#define HANDLES_MAX 4096
#define SECTOR 512
static struct file files[FILES_MAX];
static struct file *by_handle[HANDLES_MAX];
static long operations, fault_at;
static int fault_kind;
static unsigned long fault_seed = 1;

static pthread_mutex_t alone = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

static void leave(pthread_mutex_t **mutex) { pthread_mutex_unlock(*mutex); }
#define ALONE \
    pthread_mutex_lock(&alone); \
    __attribute__((cleanup(leave), unused)) pthread_mutex_t *entered = &alone

#define REAL(name, type) static type (*real)(); if (!real) real = dlsym(RTLD_NEXT, name)

static ssize_t real_pwrite(int handle, const void *data, size_t length, off_t at) {
    REAL("pwrite64", ssize_t);
    return ((ssize_t (*)(int, const void *, size_t, off_t))real)(handle, data, length, at);
}
static int real_ftruncate(int handle, off_t size) {
    REAL("ftruncate64", int);
    return ((int (*)(int, off_t))real)(handle, size);
}
static int real_open(const char *path, int flags, mode_t mode) {
    REAL("open64", int);
    return ((int (*)(const char *, int, ...))real)(path, flags, mode);
}

void faulty_disk_arm(long at, int kind, unsigned long seed) {
    operations = 0;
    fault_at = at;
    fault_kind = kind;
    fault_seed = seed * 2654435761u + 1;
}
long faulty_disk_operations(void) { return operations; }

__attribute__((constructor)) static void arm_by_environment(void) {
    const char *at = getenv("FAULTY_DISK_AT"), *kind = getenv("FAULTY_DISK_KIND");
    if (at && kind) faulty_disk_arm(atol(at), atoi(kind), 1);
}

static int chance(void) {
    fault_seed = fault_seed * 6364136223846793005ul + 1442695040888963407ul;
    return (fault_seed >> 40) & 1;
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static void apply(int handle, struct step *step, int is_torn) {
    if (step->is_cut) {
        if (!is_torn || chance()) real_ftruncate(handle, step->at);
        return;
    }
    for (size_t from = 0; from < step->length;) {
        size_t end = ((step->at + from) / SECTOR + 1) * SECTOR - step->at;
        if (end > step->length) end = step->length;
        if (!is_torn || chance()) real_pwrite(handle, step->data + from, end - from, step->at + from);
        from = end;
    }
}

static void undo(int handle, struct step *step) {
    real_pwrite(handle, step->old, step->old_length, step->at);
    real_ftruncate(handle, step->size_before);
}

/* The power goes: what was not synced is gone, or (torn) any of its sectors may be there. */
void faulty_disk_power_loss(int is_torn) {
    for (int n = 0; n < FILES_MAX; n++) {
        struct file *file = &files[n];
        if (!file->first) continue;
        int handle = real_open(file->path, O_RDWR, 0);
        if (handle < 0) continue; /* removed since */
        for (struct step *step = file->last; step; step = step->before) undo(handle, step);
        for (struct step *step = file->first; step; step = step->after) {
            if (step->state == DURABLE) apply(handle, step, 0);
            else if (step->state == PENDING && is_torn) apply(handle, step, 1);
        }
    }
    die();
}

static void forget(struct file *file) {
    for (struct step *step = file->first, *after; step; step = after) {
        after = step->after;
        free(step->data);
        free(step->old);
        free(step);
    }
    file->first = file->last = NULL;
}

/* Forget all files; none may be open. */
void faulty_disk_reset(void) {
    for (int n = 0; n < FILES_MAX; n++) {
        forget(&files[n]);
        files[n].path[0] = 0;
    }
}

/* The process dies and another finds its files: `path` is a copy, and what was not on disk of the old is not of the new. */
void faulty_disk_copied(const char *old_path, const char *path) {
    for (int n = 0; n < FILES_MAX; n++)
        if (strcmp(files[n].path, old_path) == 0) strncpy(files[n].path, path, sizeof files[n].path - 1);
}

static void synced(struct file *file, int has_failed) {
    int has_lost = 0;
    for (struct step *step = file->first; step; step = step->after) {
        if (step->state == PENDING) step->state = has_failed ? LOST : DURABLE;
        has_lost |= step->state == LOST;
    }
    if (!has_lost) forget(file);
}

static void note(int handle, struct file *file, int is_cut, const void *data, size_t length, off_t at) {
    struct stat stat_before;
    fstat(handle, &stat_before);
    struct step *step = calloc(1, sizeof *step);
    step->is_cut = is_cut;
    step->at = at;
    step->size_before = stat_before.st_size;
    size_t old_length = is_cut ? (stat_before.st_size > at ? stat_before.st_size - at : 0) : length;
    step->old = malloc(old_length + 1);
    ssize_t got = pread(handle, step->old, old_length, at);
    step->old_length = got > 0 ? got : 0;
    if (!is_cut) {
        step->length = length;
        step->data = malloc(length + 1);
        memcpy(step->data, data, length);
    }
    step->before = file->last;
    if (file->last) file->last->after = step;
    else file->first = step;
    file->last = step;
}

static struct file *file_of(int handle) {
    return handle >= 0 && handle < HANDLES_MAX ? by_handle[handle] : NULL;
}

/* Whether this operation is the one; dies in it where that is what it does. */
static int is_struck(void) {
    operations++;
    int is_on = fault_kind == EIO_ON || fault_kind == ENOSPC_ON;
    if (!fault_at || (is_on ? operations < fault_at : operations != fault_at)) return 0;
    if (fault_kind == KILL) die();
    if (fault_kind == POWER || fault_kind == POWER_TORN) faulty_disk_power_loss(fault_kind == POWER_TORN);
    errno = fault_kind == ENOSPC_ONCE || fault_kind == ENOSPC_ON ? ENOSPC : EIO;
    return 1;
}

static ssize_t write_at(int handle, struct file *file, const void *data, size_t length, off_t at) {
    if (is_struck()) {
        if (fault_kind != SHORT && fault_kind != KILL_TORN) return -1;
        if (length > 1) length /= 2;
        note(handle, file, 0, data, length, at);
        ssize_t written = real_pwrite(handle, data, length, at);
        if (fault_kind == KILL_TORN) die();
        return written;
    }
    note(handle, file, 0, data, length, at);
    return real_pwrite(handle, data, length, at);
}

ssize_t pwrite64(int handle, const void *data, size_t length, off_t at) {
    ALONE;
    struct file *file = file_of(handle);
    return file ? write_at(handle, file, data, length, at) : real_pwrite(handle, data, length, at);
}
ssize_t pwrite(int handle, const void *data, size_t length, off_t at) {
    return pwrite64(handle, data, length, at);
}

int fdatasync(int handle);

/* Written and synced by one call: two operations here. */
ssize_t pwritev64v2(int handle, const struct iovec *parts, int count, off_t at, int flags) {
    REAL("pwritev64v2", ssize_t);
    ALONE;
    struct file *file = file_of(handle);
    if (!file) return ((ssize_t (*)(int, const struct iovec *, int, off_t, int))real)(handle, parts, count, at, flags);
    size_t length = 0;
    for (int n = 0; n < count; n++) length += parts[n].iov_len;
    unsigned char *data = malloc(length + 1), *end = data;
    for (int n = 0; n < count; n++) {
        memcpy(end, parts[n].iov_base, parts[n].iov_len);
        end += parts[n].iov_len;
    }
    ssize_t written = write_at(handle, file, data, length, at);
    free(data);
    if (written > 0 && (flags & RWF_DSYNC) && fdatasync(handle)) return -1;
    return written;
}
ssize_t pwritev2(int handle, const struct iovec *parts, int count, off_t at, int flags) {
    return pwritev64v2(handle, parts, count, at, flags);
}

ssize_t write(int handle, const void *data, size_t length) {
    REAL("write", ssize_t);
    struct file *file = file_of(handle);
    if (!file) return ((ssize_t (*)(int, const void *, size_t))real)(handle, data, length);
    ALONE;
    off_t at = lseek(handle, 0, SEEK_CUR);
    ssize_t written = write_at(handle, file, data, length, at);
    if (written > 0) lseek(handle, at + written, SEEK_SET);
    return written;
}

int ftruncate64(int handle, off_t size) {
    struct file *file = file_of(handle);
    if (!file) return real_ftruncate(handle, size);
    ALONE;
    if (is_struck()) {
        if (fault_kind == KILL_TORN) die();
        if (fault_kind != SHORT) return -1;
    }
    note(handle, file, 1, NULL, 0, size);
    return real_ftruncate(handle, size);
}
int ftruncate(int handle, off_t size) { return ftruncate64(handle, size); }

/* Returns what is wrong, as the real one does, and sets no errno. */
int posix_fallocate64(int handle, off_t at, off_t length) {
    REAL("posix_fallocate64", int);
    ALONE;
    struct file *file = file_of(handle);
    struct stat before;
    if (file) {
        if (is_struck()) {
            if (fault_kind == KILL_TORN) die();
            if (fault_kind != SHORT) return errno;
        }
        fstat(handle, &before);
        if (before.st_size < at + length) note(handle, file, 1, NULL, 0, at + length);
    }
    return ((int (*)(int, off_t, off_t))real)(handle, at, length);
}
int posix_fallocate(int handle, off_t at, off_t length) { return posix_fallocate64(handle, at, length); }

static int sync_file(int handle, struct file *file, int (*real)(int)) {
    ALONE;
    if (is_struck()) {
        if (fault_kind == KILL_TORN) die();
        if (fault_kind != SHORT) {
            synced(file, 1);
            return -1;
        }
    }
    /* Not synced for real: no test cuts the real power, and thousands of runs would wait for it. */
    (void)real;
    (void)handle;
    synced(file, 0);
    return 0;
}
int fsync(int handle) {
    REAL("fsync", int);
    struct file *file = file_of(handle);
    return file ? sync_file(handle, file, (int (*)(int))real) : ((int (*)(int))real)(handle);
}
int fdatasync(int handle) {
    REAL("fdatasync", int);
    struct file *file = file_of(handle);
    return file ? sync_file(handle, file, (int (*)(int))real) : ((int (*)(int))real)(handle);
}

static int is_ours(const char *path) {
    const char *name = strrchr(path, '/');
    return strstr(name ? name : path, "gateway.sqlite3") != NULL;
}

static int opened(const char *path, int handle) {
    if (handle < 0 || handle >= HANDLES_MAX || !is_ours(path)) return handle;
    ALONE;
    int n = 0;
    for (; n < FILES_MAX; n++) {
        if (!files[n].path[0]) strncpy(files[n].path, path, sizeof files[n].path - 1);
        if (strcmp(files[n].path, path) == 0) {
            by_handle[handle] = &files[n];
            break;
        }
    }
    if (n == FILES_MAX) abort(); /* it would go unnoticed that nothing fails */
    return handle;
}
#define MODE(flags) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }
int open64(const char *path, int flags, ...) { MODE(flags) return opened(path, real_open(path, flags, mode)); }
int open(const char *path, int flags, ...) { MODE(flags) return opened(path, real_open(path, flags, mode)); }

int close(int handle) {
    REAL("close", int);
    if (handle >= 0 && handle < HANDLES_MAX) by_handle[handle] = NULL;
    return ((int (*)(int))real)(handle);
}

int unlink(const char *path) {
    REAL("unlink", int);
    if (is_ours(path)) {
        ALONE;
        if (is_struck() && fault_kind != SHORT) {
            if (fault_kind == KILL_TORN) die();
            return -1;
        }
        for (int n = 0; n < FILES_MAX; n++)
            if (strcmp(files[n].path, path) == 0) forget(&files[n]);
    }
    return ((int (*)(const char *))real)(path);
}
