#include "group_commit.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void announce(struct group_commit *commit)
{
    uint64_t one = 1;
    /* Fails only when the counter is at its top, and then the descriptor is readable anyway. */
    ssize_t wrote = write(commit->event_fd, &one, sizeof one);
    (void)wrote;
}

/* Syncs every file that holds bytes below target, with the mutex released meanwhile: 0 or errno. The ring only grows at
 * its other end while we are away. */
static int sync_to(struct group_commit *commit, uint64_t target)
{
    while (commit->count > 0) {
        struct group_commit_file *file = &commit->files[commit->first];
        int fd = file->fd;
        pthread_mutex_unlock(&commit->mutex);
        int error = fdatasync(fd) == 0 ? 0 : errno;
        __atomic_add_fetch(&commit->syncs, 1, __ATOMIC_RELAXED);
        pthread_mutex_lock(&commit->mutex);
        if (error)
            return error;
        if (file->end > target)
            return 0;       /* it goes on: keep it */
        close(fd);
        commit->first = (commit->first + 1) % GROUP_COMMIT_FILES_MAX;
        commit->count--;
        if (file->end == target)
            return 0;
    }
    return 0;
}

static void *run(void *argument)
{
    struct group_commit *commit = argument;
    pthread_mutex_lock(&commit->mutex);
    for (;;) {
        while (!commit->stopping && commit->requested <= commit->durable)
            pthread_cond_wait(&commit->wake, &commit->mutex);
        if (commit->stopping)
            break;
        /* Everything written before the fdatasync begins is covered, asked for or not. */
        uint64_t target = __atomic_load_n(&commit->written, __ATOMIC_ACQUIRE);
        int error = sync_to(commit, target);
        if (error) {
            __atomic_store_n(&commit->failure, error, __ATOMIC_RELEASE);
            announce(commit);
            break;
        }
        __atomic_store_n(&commit->durable, target, __ATOMIC_RELEASE);
        announce(commit);
    }
    pthread_mutex_unlock(&commit->mutex);
    return NULL;
}

int group_commit_start(struct group_commit *commit, uint64_t durable)
{
    commit->first = commit->count = 0;
    commit->requested = commit->written = commit->durable = durable;
    commit->stopping = false;
    commit->failure = 0;
    commit->syncs = 0;
    commit->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (commit->event_fd < 0)
        return -errno;
    pthread_mutex_init(&commit->mutex, NULL);
    pthread_cond_init(&commit->wake, NULL);
    int error = pthread_create(&commit->thread, NULL, run, commit);
    if (error) {
        pthread_cond_destroy(&commit->wake);
        pthread_mutex_destroy(&commit->mutex);
        close(commit->event_fd);
    }
    return -error;
}

int group_commit_add(struct group_commit *commit, int fd, uint64_t start)
{
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (own < 0)
        return -errno;
    pthread_mutex_lock(&commit->mutex);
    if (commit->count == GROUP_COMMIT_FILES_MAX) {
        pthread_mutex_unlock(&commit->mutex);
        close(own);
        return -ENOBUFS;
    }
    if (commit->count > 0)
        commit->files[(commit->first + commit->count - 1) % GROUP_COMMIT_FILES_MAX].end = start;
    struct group_commit_file *file = &commit->files[(commit->first + commit->count) % GROUP_COMMIT_FILES_MAX];
    file->fd = own;
    file->end = UINT64_MAX;
    commit->count++;
    pthread_mutex_unlock(&commit->mutex);
    return 0;
}

void group_commit_written(struct group_commit *commit, uint64_t position)
{
    assert(position >= commit->written);
    __atomic_store_n(&commit->written, position, __ATOMIC_RELEASE);
}

void group_commit_request(struct group_commit *commit)
{
    pthread_mutex_lock(&commit->mutex);
    if (commit->requested < commit->written) {
        commit->requested = commit->written;
        pthread_cond_signal(&commit->wake);
    }
    pthread_mutex_unlock(&commit->mutex);
}

uint64_t group_commit_durable(const struct group_commit *commit)
{
    return __atomic_load_n(&commit->durable, __ATOMIC_ACQUIRE);
}

int group_commit_failure(const struct group_commit *commit)
{
    return __atomic_load_n(&commit->failure, __ATOMIC_ACQUIRE);
}

void group_commit_stop(struct group_commit *commit)
{
    pthread_mutex_lock(&commit->mutex);
    commit->stopping = true;
    pthread_cond_signal(&commit->wake);
    pthread_mutex_unlock(&commit->mutex);
    pthread_join(commit->thread, NULL);
    while (commit->count > 0) {
        close(commit->files[commit->first].fd);
        commit->first = (commit->first + 1) % GROUP_COMMIT_FILES_MAX;
        commit->count--;
    }
    pthread_cond_destroy(&commit->wake);
    pthread_mutex_destroy(&commit->mutex);
    close(commit->event_fd);
}
