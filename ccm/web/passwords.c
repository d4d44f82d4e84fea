#include "ccm/web/passwords.h"

#include "common/util.h"
#include <pthread.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

/* As OWASP has it: 19 MiB, two passes; some 30 ms of one core. */
#define MEMORY_BYTES (19u << 20)
#define PASSES	     2
#define HASH_BYTES   32

struct job {
	char *password; /* owned; wiped */
	char hash[PASSWORD_HASH_MAX];
	bool verify;
	passwords_fn *fn;
	void *arg;
	int rc;
	struct job *next;
};

struct jobs {
	struct job *first, **end;
};

struct passwords {
	struct loop *loop;
	struct loop_src *source;
	int wake; /* eventfd: something is done */
	pthread_t thread;
	bool runs;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t work;
	struct jobs waiting, done;
	unsigned n_waiting;
	bool stop;
};

static void put(struct jobs *jobs, struct job *j)
{
	j->next = NULL;
	*jobs->end = j;
	jobs->end = &j->next;
}

static struct job *take(struct jobs *jobs)
{
	struct job *j = jobs->first;
	if (j == NULL)
		return NULL;
	jobs->first = j->next;
	if (jobs->first == NULL)
		jobs->end = &jobs->first;
	return j;
}

static void job_free(struct job *j)
{
	if (j->password != NULL)
		sodium_memzero(j->password, strlen(j->password));
	free(j->password);
	free(j);
}

int password_hash_now(const char *password, char hash[static PASSWORD_HASH_MAX])
{
	_Static_assert(PASSWORD_HASH_MAX == crypto_pwhash_argon2id_STRBYTES, "room for a hash");
	return crypto_pwhash_argon2id_str(hash, password, strlen(password), PASSES, MEMORY_BYTES) == 0 ? 0 : ERR_NOMEM;
}

/* ---- the thread ---- */

/* ret: where the value ends; NULL: it is not one of that size */
static const char *decode(const char *text, unsigned char *ret, size_t size)
{
	const char *end;
	size_t len;
	return sodium_base642bin(ret, size, text, strlen(text), NULL, &len, &end, sodium_base64_VARIANT_ORIGINAL_NO_PADDING) == 0 &&
			       len == size
		       ? end
		       : NULL;
}

/* Not crypto_pwhash_str_verify(): for that a lack of memory is another password. ret: 0, ERR_ACCES, ERR_NOMEM */
static int verify(const char *hash, const char *password)
{
	unsigned char salt[crypto_pwhash_argon2id_SALTBYTES], want[HASH_BYTES], have[HASH_BYTES];
	unsigned kib, passes;
	int at = 0;
	if (sscanf(hash, "$argon2id$v=19$m=%9u,t=%9u,p=1$%n", &kib, &passes, &at) != 2 || at == 0)
		return ERR_ACCES;
	const char *end = decode(hash + at, salt, sizeof(salt));
	if (end == NULL || *end != '$' || (end = decode(end + 1, want, sizeof(want))) == NULL || *end != '\0')
		return ERR_ACCES;
	if (crypto_pwhash_argon2id(have, sizeof(have), password, strlen(password), salt, passes, (size_t)kib << 10,
				   crypto_pwhash_argon2id_ALG_ARGON2ID13) != 0)
		return ERR_NOMEM;
	return sodium_memcmp(have, want, sizeof(want)) == 0 ? 0 : ERR_ACCES;
}

/* A hash that is nobody's, once. */
static bool make_decoy(char *decoy)
{
	char password[33];
	unsigned char bytes[16];
	if (*decoy != '\0')
		return true;
	randombytes_buf(bytes, sizeof(bytes));
	sodium_bin2hex(password, sizeof(password), bytes, sizeof(bytes));
	return password_hash_now(password, decoy) == 0;
}

static int run_job(struct job *j, char *decoy)
{
	if (!j->verify)
		return password_hash_now(j->password, j->hash);
	bool nobody = *j->hash == '\0';
	if (nobody && !make_decoy(decoy))
		return ERR_NOMEM;
	int rc = verify(nobody ? decoy : j->hash, j->password);
	return rc == 0 && nobody ? ERR_ACCES : rc;
}

static void *work(void *arg)
{
	struct passwords *p = arg;
	char decoy[PASSWORD_HASH_MAX] = "";
	const uint64_t one = 1;
	(void)make_decoy(decoy); /* before somebody could measure it */
	pthread_mutex_lock(&p->lock);
	while (!p->stop) {
		struct job *j = take(&p->waiting);
		if (j == NULL) {
			pthread_cond_wait(&p->work, &p->lock);
			continue;
		}
		p->n_waiting--;
		pthread_mutex_unlock(&p->lock);
		j->rc = run_job(j, decoy);
		pthread_mutex_lock(&p->lock);
		put(&p->done, j);
		if (write(p->wake, &one, sizeof(one)) < 0)
			continue; /* full: it is awake */
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* ---- the loop ---- */

static void on_done(void *arg, uint32_t events)
{
	struct passwords *p = arg;
	uint64_t count;
	(void)events;
	if (read(p->wake, &count, sizeof(count)) < 0)
		return;
	for (;;) {
		pthread_mutex_lock(&p->lock);
		struct job *j = take(&p->done);
		pthread_mutex_unlock(&p->lock);
		if (j == NULL)
			return;
		j->fn(j->arg, j->rc, j->rc == 0 && !j->verify ? j->hash : NULL);
		job_free(j);
	}
}

static int start_job(struct passwords *p, const char *password, const char *hash, passwords_fn *fn, void *arg)
{
	int rc = 0;
	struct job *j = calloc(1, sizeof(*j));
	if (j == NULL || (j->password = strdup(password)) == NULL) {
		free(j);
		return ERR_NOMEM;
	}
	j->verify = hash != NULL;
	j->fn = fn;
	j->arg = arg;
	if (hash != NULL && strlen(hash) < sizeof(j->hash)) /* a longer one is none of ours, and nobody's */
		memcpy(j->hash, hash, strlen(hash) + 1);
	pthread_mutex_lock(&p->lock);
	if (p->n_waiting < PASSWORDS_QUEUE) {
		put(&p->waiting, j);
		p->n_waiting++;
		pthread_cond_signal(&p->work);
	} else {
		rc = ERR_AGAIN;
	}
	pthread_mutex_unlock(&p->lock);
	if (rc < 0)
		job_free(j);
	return rc;
}

int passwords_verify(struct passwords *p, const char *password, const char *hash, passwords_fn *fn, void *arg)
{
	return start_job(p, password, hash, fn, arg);
}

int passwords_hash(struct passwords *p, const char *password, passwords_fn *fn, void *arg)
{
	return start_job(p, password, NULL, fn, arg);
}

int passwords_new(struct loop *l, struct passwords **ret, struct err *err)
{
	struct passwords *p = sodium_init() >= 0 ? calloc(1, sizeof(*p)) : NULL;
	if (p == NULL)
		return err_set(err, ERR_NOMEM, "passwords");
	p->loop = l;
	p->waiting.end = &p->waiting.first;
	p->done.end = &p->done.first;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, NULL);
	p->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	int rc = p->wake >= 0 ? loop_add_fd(l, p->wake, EPOLLIN, on_done, p, &p->source, err) : err_sys(err, "passwords");
	if (rc == 0) {
		errno = pthread_create(&p->thread, NULL, work, p);
		p->runs = errno == 0;
		rc = p->runs ? 0 : err_sys(err, "a thread for passwords");
	}
	if (rc < 0) {
		passwords_free(p);
		return rc;
	}
	*ret = p;
	return 0;
}

struct passwords *passwords_free(struct passwords *p)
{
	struct job *j;
	if (p == NULL)
		return NULL;
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_signal(&p->work);
	pthread_mutex_unlock(&p->lock);
	if (p->runs)
		pthread_join(p->thread, NULL);
	p->source = loop_remove(p->loop, p->source);
	while ((j = take(&p->done)) != NULL || (j = take(&p->waiting)) != NULL) {
		j->fn(j->arg, ERR_AGAIN, NULL);
		job_free(j);
	}
	closep(&p->wake);
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->lock);
	free(p);
	return NULL;
}
