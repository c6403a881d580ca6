/* Group commit over real files: what is asked for becomes durable, across files and in order, and a failure is told. */
#include "group_commit.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct group_commit commit;

static int temporary(void)
{
    char path[] = "/tmp/group_commit_XXXXXX";
    int fd = mkstemp(path);
    assert(fd >= 0);
    unlink(path);
    return fd;
}

static void wait_for(uint64_t position)
{
    while (group_commit_durable(&commit) < position && group_commit_failure(&commit) == 0) {
        struct pollfd waiting = {.fd = commit.event_fd, .events = POLLIN};
        assert(poll(&waiting, 1, 30000) == 1);
        uint64_t count;
        assert(read(commit.event_fd, &count, sizeof count) == sizeof count);
    }
}

static void test_many_files(void)
{
    uint64_t position = 1000;
    assert(group_commit_start(&commit, position) == 0);
    for (int file = 0; file < 40; file++) {
        int fd = temporary();
        assert(group_commit_add(&commit, fd, position) == 0);
        for (int i = 0; i < 7; i++) {
            assert(write(fd, "0123456789", 10) == 10);
            position += 10;
            group_commit_written(&commit, position);
            if (i % 3 == file % 3)
                group_commit_request(&commit);
        }
        close(fd);          /* the thread has its own */
        if (file % 10 == 9) {
            group_commit_request(&commit);
            wait_for(position);
            assert(group_commit_durable(&commit) == position);
            assert(commit.count <= 1);
        }
    }
    group_commit_request(&commit);      /* nothing new: no sync, no wait */
    group_commit_stop(&commit);
}

static void test_too_many_files(void)
{
    assert(group_commit_start(&commit, 0) == 0);
    int fd = temporary();
    for (int i = 0; i < GROUP_COMMIT_FILES_MAX; i++)
        assert(group_commit_add(&commit, fd, 10 * (uint64_t)i) == 0);
    assert(group_commit_add(&commit, fd, 1 << 20) == -ENOBUFS);
    group_commit_written(&commit, 1 << 20);
    group_commit_request(&commit);
    wait_for(1 << 20);
    assert(group_commit_durable(&commit) == 1 << 20);
    assert(commit.syncs == GROUP_COMMIT_FILES_MAX && commit.count == 1);
    close(fd);
    group_commit_stop(&commit);
}

static void test_failure(void)
{
    int pipes[2];
    assert(pipe(pipes) == 0);
    assert(group_commit_start(&commit, 0) == 0);
    assert(group_commit_add(&commit, pipes[1], 0) == 0);    /* a pipe cannot be synced: EINVAL */
    group_commit_written(&commit, 5);
    group_commit_request(&commit);
    wait_for(5);
    assert(group_commit_failure(&commit) == EINVAL && group_commit_durable(&commit) == 0);
    group_commit_stop(&commit);
    assert(group_commit_add(&commit, -1, 0) == -EBADF);
    close(pipes[0]);
    close(pipes[1]);
}

int main(void)
{
    test_many_files();
    test_too_many_files();
    test_failure();
    puts("group_commit: ok");
    return 0;
}
