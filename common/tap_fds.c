/* tap_fds.c - rings as descriptors: made, checked, looked at from aside. */
#include "common/tap_int.h"
#include "common/util.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

static uint64_t round_up(size_t bytes)
{
	uint64_t n = TAP_RING_MIN;
	while (n < bytes && n < TAP_RING_MAX)
		n *= 2;
	return n;
}

/* A memfd with room for a ring, which can neither shrink nor grow any more. */
static int memfd_new(const char *name, uint64_t ring_bytes, int *ret, struct err *err)
{
	CLEANUP(closep)
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return err_sys(err, "memfd_create");
	if (ftruncate(fd, (off_t)(TAP_PAGE_BYTES + ring_bytes)) < 0)
		return err_sys(err, "ring of %llu bytes", (unsigned long long)ring_bytes);
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		return err_sys(err, "sealing a ring");
	*ret = TAKE_FD(fd);
	return 0;
}

static bool power_of_two(uint64_t n)
{
	return n >= TAP_RING_MIN && n <= TAP_RING_MAX && (n & (n - 1)) == 0;
}

int tap_check_memfd(int fd, uint64_t ring_bytes, const char *which, struct err *err)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_sys(err, "%s-memfd", which);
	if (st.st_size < 0 || (uint64_t)st.st_size != TAP_PAGE_BYTES + ring_bytes)
		return err_set(err, ERR_PEER, "%s-memfd has %lld bytes", which,
			       (long long)st.st_size);
	return 0;
}

/* The sizes that the in-memfd tells, checked against what it is. */
int tap_read_sizes(int in_fd, uint64_t *ret_in, uint64_t *ret_out, struct err *err)
{
	struct stat st;
	if (fstat(in_fd, &st) < 0)
		return err_sys(err, "in-memfd");
	if (st.st_size < (off_t)TAP_PAGE_BYTES)
		return err_set(err, ERR_PEER, "in-memfd has %lld bytes", (long long)st.st_size);
	const struct tap_in_page *page = tap_map(in_fd, 0, false);
	if (page == NULL)
		return err_sys(err, "mapping the in-memfd");
	bool ours = atomic_load(&page->magic) == TAP_MAGIC &&
		    atomic_load(&page->version) == TAP_VERSION;
	*ret_in = atomic_load(&page->in_bytes);
	*ret_out = atomic_load(&page->out_bytes);
	tap_unmap(page, 0);
	if (!ours || !power_of_two(*ret_in) || !power_of_two(*ret_out))
		return err_set(err, ERR_PEER, "the in-memfd is no ring of version %u", TAP_VERSION);
	return tap_check_memfd(in_fd, *ret_in, "in", err);
}

/* ---- making ---- */

/* A fresh out-memfd whose cursors say what is believed already: pulling from it before the engine
 * has attached finds nothing and nothing wrong. */
static int out_new(uint64_t bytes, uint64_t in_head, uint64_t out_tail, int *ret, struct err *err)
{
	CLEANUP(closep)
	int fd = -1;
	int rc = memfd_new("iottalk-out", bytes, &fd, err);
	if (rc < 0)
		return rc;
	if (pwrite(fd, &in_head, sizeof(in_head), offsetof(struct tap_out_page, in_head)) !=
		    sizeof(in_head) ||
	    pwrite(fd, &out_tail, sizeof(out_tail), offsetof(struct tap_out_page, out_tail)) !=
		    sizeof(out_tail))
		return err_sys(err, "writing a ring's cursors");
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL) < 0)
		return err_sys(err, "sealing a ring");
	*ret = TAKE_FD(fd);
	return 0;
}

/* Not a duplicate, which would share the description and its right to write. */
static int reopen_read_only(int fd, int *ret, struct err *err)
{
	char path[40];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	*ret = open(path, O_RDONLY | O_CLOEXEC);
	return *ret >= 0 ? 0 : err_sys(err, "a ring for reading");
}

static int in_new(uint64_t in_bytes, uint64_t out_bytes, int *ret, struct err *err)
{
	CLEANUP(closep)
	int fd = -1;
	int rc = memfd_new("iottalk-in", in_bytes, &fd, err);
	if (rc < 0)
		return rc;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL) < 0)
		return err_sys(err, "sealing a ring");
	struct tap_in_page *page = tap_map(fd, 0, true);
	if (page == NULL)
		return err_sys(err, "mapping a ring");
	atomic_store(&page->in_bytes, in_bytes);
	atomic_store(&page->out_bytes, out_bytes);
	atomic_store(&page->version, TAP_VERSION);
	atomic_store(&page->magic, TAP_MAGIC);
	tap_unmap(page, 0);
	*ret = TAKE_FD(fd);
	return 0;
}

int tap_make(size_t in_bytes, size_t out_bytes, struct tap_fds *ret, struct err *err)
{
	struct tap_fds f = TAP_FDS_NONE;
	int rc = in_new(round_up(in_bytes), round_up(out_bytes), &f.in_fd, err);
	if (rc == 0)
		rc = reopen_read_only(f.in_fd, &f.in_ro_fd, err);
	if (rc == 0)
		rc = out_new(round_up(out_bytes), 0, 0, &f.out_fd, err);
	if (rc < 0) {
		tap_fds_done(&f);
		return rc;
	}
	*ret = f;
	return 0;
}

int tap_fds_adopt(int in_fd, int out_fd, struct tap_fds *ret, struct err *err)
{
	struct tap_fds f = {in_fd, -1, out_fd};
	uint64_t in_bytes = 0, out_bytes = 0;
	int rc = tap_read_sizes(in_fd, &in_bytes, &out_bytes, err);
	if (rc == 0)
		rc = tap_check_memfd(out_fd, out_bytes, "out", err);
	if (rc == 0)
		rc = reopen_read_only(in_fd, &f.in_ro_fd, err);
	if (rc < 0) {
		tap_fds_done(&f);
		return rc;
	}
	*ret = f;
	return 0;
}

int tap_make_out(struct tap_fds *f, struct err *err)
{
	uint64_t in_bytes = 0, out_bytes = 0;
	int fd = -1;
	int rc = tap_read_sizes(f->in_fd, &in_bytes, &out_bytes, err);
	if (rc < 0)
		return rc;
	const struct tap_in_page *page = tap_map(f->in_fd, 0, false);
	if (page == NULL)
		return err_sys(err, "mapping the in-memfd");
	rc = out_new(out_bytes, atomic_load(&page->start), atomic_load(&page->out_head), &fd, err);
	tap_unmap(page, 0);
	if (rc < 0)
		return rc;
	closep(&f->out_fd);
	f->out_fd = fd;
	return 0;
}

int tap_fds_start(const struct tap_fds *f, uint64_t *ret, struct err *err)
{
	const struct tap_in_page *page = tap_map(f->in_ro_fd, 0, false);
	if (page == NULL)
		return err_sys(err, "mapping the in-memfd");
	*ret = atomic_load(&page->start);
	tap_unmap(page, 0);
	return 0;
}

void tap_fds_done(struct tap_fds *f)
{
	closep(&f->in_fd);
	closep(&f->in_ro_fd);
	closep(&f->out_fd);
}

struct tap_watch {
	const struct tap_in_page *in;
	const struct tap_out_page *out;
	uint64_t in_bytes, out_bytes;
};

/* ---- onlooker ---- */

int tap_watch_open(int in_fd, int out_fd, struct tap_watch **ret, struct err *err)
{
	struct tap_watch *w = calloc(1, sizeof(*w));
	if (w == NULL)
		return err_set(err, ERR_NOMEM, "out of memory for a look at rings");
	int rc = tap_read_sizes(in_fd, &w->in_bytes, &w->out_bytes, err);
	if (rc == 0)
		rc = tap_check_memfd(out_fd, w->out_bytes, "out", err);
	if (rc == 0 && ((w->in = tap_map(in_fd, 0, false)) == NULL ||
			(w->out = tap_map(out_fd, 0, false)) == NULL))
		rc = err_sys(err, "mapping a ring");
	if (rc < 0) {
		tap_watch_close(w);
		return rc;
	}
	*ret = w;
	return 0;
}

struct tap_watch *tap_watch_close(struct tap_watch *w)
{
	if (w == NULL)
		return NULL;
	tap_unmap(w->in, 0);
	tap_unmap(w->out, 0);
	free(w);
	return NULL;
}

void tap_watch_look(const struct tap_watch *w, struct tap_look *ret)
{
	/* consumers before producers: what is seen of a pair is then never more than was there */
	uint64_t in_head = atomic_load_explicit(&w->out->in_head, memory_order_acquire);
	uint64_t in_tail = atomic_load_explicit(&w->in->in_tail, memory_order_acquire);
	uint64_t out_head = atomic_load_explicit(&w->in->out_head, memory_order_acquire);
	uint64_t out_tail = atomic_load_explicit(&w->out->out_tail, memory_order_acquire);

	/* in_head may run ahead of the in_tail read before it by nothing, out_tail of an out_head
	 * that has moved meanwhile by more than a ring: then look again next time */
	*ret = (struct tap_look){
		.done = in_head,
		.waiting = in_tail - in_head,
		.out_taken = out_head,
		.out_waiting = out_tail - out_head,
		.out_bytes = w->out_bytes,
		.doing = atomic_load_explicit(&w->out->doing, memory_order_acquire),
		.doing_at = atomic_load_explicit(&w->out->doing_at, memory_order_relaxed),
		.asleep = atomic_load_explicit(&w->out->engine_asleep, memory_order_relaxed) != 0,
	};
	ret->sane = ret->waiting <= w->in_bytes;
	if (ret->out_waiting > w->out_bytes)
		ret->out_waiting = w->out_bytes;
}
