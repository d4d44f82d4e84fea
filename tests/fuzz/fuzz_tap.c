/* fuzz: common
 *
 * Both sides of a tap against a liar. First byte odd: the engine is hostile; the input is a program
 * that pokes into the out-memfd between the trusted side's calls. Even: the trusted side's memfd is
 * scribbled over before and while an engine reads it. */
#include "common/tap.h"

#include "common/util.h"
#include <assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#define RING  4096u
#define PAGE  4096u
#define BYTES (RING + PAGE)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *data;
	size_t left;
};

static uint64_t take(struct input *in, size_t n)
{
	uint64_t v = 0;
	n = n < in->left ? n : in->left;
	memcpy(&v, in->data, n);
	in->data += n;
	in->left -= n;
	return v;
}

/* Write 1, 4 or 8 bytes of the input somewhere; cursors are hit often. */
static void poke(struct input *in, unsigned char *page)
{
	static const size_t cursors[] = {0, 8, 16, 64, 128, 192, 256, 320, PAGE, PAGE + 8};
	uint64_t how = take(in, 1);
	size_t at =
		how & 0x80 ? cursors[(how & 0x7f) % ARRAY_LEN(cursors)] : take(in, 2) % (BYTES - 8);
	size_t n = how & 1 ? 8 : how & 2 ? 4 : 1;
	uint64_t value = take(in, how & 4 ? 2 : n);
	memcpy(page + at, &value, n);
}

static unsigned char *map(int fd)
{
	unsigned char *page = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert(page != MAP_FAILED);
	return page;
}

/* Made once and reset, since that costs more than the rest. */
struct rings {
	struct tap_fds fds;
	unsigned char *in, *out;
	unsigned char new_in[BYTES], new_out[BYTES];
};

static void rings_reset(struct rings *r)
{
	if (r->in == NULL) {
		assert(tap_make(RING, RING, &r->fds, NULL) == 0);
		r->in = map(r->fds.in_fd);
		r->out = map(r->fds.out_fd);
		memcpy(r->new_in, r->in, BYTES);
		memcpy(r->new_out, r->out, BYTES);
	}
	memcpy(r->in, r->new_in, BYTES);
	memcpy(r->out, r->new_out, BYTES);
}

static void hostile_engine(struct input *in)
{
	static struct rings r;
	struct tap *t;
	unsigned char buf[1024];
	struct tap_rec rec;
	uint64_t done, waiting;
	struct tap_watch *w;
	struct tap_look look;
	rings_reset(&r);
	assert(tap_open(r.fds.in_fd, r.fds.out_fd, &t, NULL) == 0);
	while (in->left > 0) {
		int rc = 0;
		switch (take(in, 1) % 10) {
		case 0:
		case 1:
			poke(in, r.out);
			break;
		case 2:
			rec = (struct tap_rec){
				.slot = 1, .qos = 1, .len = (uint32_t)take(in, 1) * 4};
			rc = tap_push(t, &rec, buf);
			assert(rc == 0 || rc == ERR_AGAIN || rc == ERR_PEER);
			break;
		case 3:
			rc = tap_pull(t, &rec, buf, sizeof(buf));
			assert(rc == 0 || rc == ERR_PEER ||
			       (rc == 1 && rec.len <= sizeof(buf) && rec.qos <= 2));
			break;
		case 4:
			rc = tap_progress(t, &done, &waiting);
			assert(rc == ERR_PEER || (rc == 0 && waiting <= RING));
			break;
		case 5:
			rc = tap_current(t, &rec);
			assert(rc == ERR_PEER || rc == 0 ||
			       (rc == 1 && rec.slot == 1 && rec.len <= 1020));
			break;
		case 6:
			munmap(r.out, BYTES);
			tap_retire(t, take(in, 1) & 1, &rec);
			assert(tap_make_out(&r.fds, NULL) == 0);
			assert(tap_set_out(t, r.fds.out_fd, NULL) == 0);
			assert(rec.slot == 1 || rec.slot == UINT32_MAX);
			assert(tap_progress(t, &done, &waiting) == 0 &&
			       tap_pull(t, &rec, buf, sizeof(buf)) == 0);
			r.out = map(r.fds.out_fd);
			break;
		case 7: /* the trusted side dies, too */
			tap_close(t);
			assert(tap_open(r.fds.in_fd, r.fds.out_fd, &t, NULL) == 0);
			break;
		case 8:
			assert(tap_watch_open(r.fds.in_ro_fd, r.fds.out_fd, &w, NULL) == 0);
			tap_watch_look(w, &look);
			assert(!look.sane || (look.waiting <= RING && look.out_waiting <= RING));
			tap_watch_close(w);
			break;
		default:
			tap_set_asleep(t, tap_engine_sleeps(t));
			(void)tap_doing(t);
			break;
		}
	}
	tap_close(t);
}

static void hostile_trusted_side(struct input *in)
{
	static const struct {
		uint32_t magic, version;
		uint64_t in_bytes, out_bytes;
	} good = {0x31504154u, 2, RING, RING};
	static int in_fd = -1, out_fd = -1;
	static unsigned char *page, *out;
	struct tap_peer *p = NULL;
	unsigned char buf[1024];
	struct tap_rec rec;
	if (page == NULL) {
		in_fd = memfd_create("in", MFD_CLOEXEC);
		out_fd = memfd_create("out", MFD_CLOEXEC);
		assert(ftruncate(in_fd, BYTES) == 0 && ftruncate(out_fd, BYTES) == 0);
		page = map(in_fd);
		out = map(out_fd);
	}
	memset(page, 0, BYTES);
	memset(out, 0, BYTES);
	memcpy(page, &good, sizeof(good));
	for (uint64_t n = take(in, 1) % 8; n > 0; n--)
		poke(in, page);
	if (tap_attach(in_fd, out_fd, &p, NULL) == 0) {
		while (in->left > 0) {
			int rc;
			switch (take(in, 1) % 4) {
			case 0:
				poke(in, page);
				break;
			case 1:
				rc = tap_next(p, &rec, buf, sizeof(buf));
				assert(rc != 1 || (rec.len <= sizeof(buf) && rec.qos <= 2));
				break;
			case 2:
				tap_consume(p);
				break;
			default:
				rec = (struct tap_rec){.slot = 1, .len = (uint32_t)take(in, 1) * 4};
				rc = tap_reply(p, &rec, buf);
				assert(rc == 0 || rc == ERR_AGAIN || rc == ERR_PEER);
				break;
			}
		}
	}
	tap_detach(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {.data = data, .left = size};
	if (take(&in, 1) & 1)
		hostile_engine(&in);
	else
		hostile_trusted_side(&in);
	return 0;
}
