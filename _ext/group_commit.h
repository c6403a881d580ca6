/* Group commit: a thread that makes an append-only log durable, however many writes one fdatasync covers.
 *
 * The log is a row of files. Their bytes have positions that run on from file to file. The owner writes, says how far
 * (group_commit_written), and asks (group_commit_request); the thread calls fdatasync on each file that holds something
 * new, oldest first, and only then moves the durable position and makes the eventfd readable. So the durable position
 * never passes a byte that is not on disk, in whatever file.
 *
 * All functions but group_commit_durable and group_commit_failure are for one owner thread. The struct is the caller's
 * memory and must not move while the thread runs. Costs: a request is a mutex and at most one futex call. */
#ifndef DYNAMO_FAST_GROUP_COMMIT_H
#define DYNAMO_FAST_GROUP_COMMIT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum { GROUP_COMMIT_FILES_MAX = 256 };

struct group_commit_file {
    int fd;                 /* a duplicate, closed by the thread when the file is done with */
    uint64_t end;           /* position at which the next file begins; UINT64_MAX for the last one */
};

struct group_commit {
    pthread_t thread;
    pthread_mutex_t mutex;  /* guards what follows, but for the three that are atomic */
    pthread_cond_t wake;
    struct group_commit_file files[GROUP_COMMIT_FILES_MAX]; /* a ring: not yet durable to their end, in order */
    uint32_t first, count;
    uint64_t requested;     /* make durable at least to here */
    bool stopping;
    uint64_t written;       /* atomic: the log is written to here */
    uint64_t durable;       /* atomic: and on disk to here */
    int failure;            /* atomic: errno of the fdatasync that failed, after which the thread is gone; 0 for none */
    uint64_t syncs;         /* fdatasync calls so far; atomic */
    int event_fd;
};

/* Starts the thread for a log that is durable up to a position: 0 or -errno. */
int group_commit_start(struct group_commit *commit, uint64_t durable);

/* The log goes on in this file from position start, where the one before it ends: 0, or -errno (-ENOBUFS: too many files
 * wait already). The descriptor is duplicated. */
int group_commit_add(struct group_commit *commit, int fd, uint64_t start);

void group_commit_written(struct group_commit *commit, uint64_t position);

/* Asks for everything written so far. */
void group_commit_request(struct group_commit *commit);

uint64_t group_commit_durable(const struct group_commit *commit);
int group_commit_failure(const struct group_commit *commit);

/* Ends the thread, after the fdatasync in progress if there is one, and closes everything. */
void group_commit_stop(struct group_commit *commit);

#endif
