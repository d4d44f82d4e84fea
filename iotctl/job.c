/* job.c - work that blocks, on a thread of its own. */
#include "iotctl/job.h"
#include "common/util.h"
#include <pthread.h>
#include <string.h>

struct job {
	struct jobs *all;
	struct job *next;
	pthread_t thread;
	atomic_bool cancel;
	job_work_fn *work;
	job_done_fn *done;
	void *arg;
};

struct jobs {
	struct loop *loop;
	void *owner;
	struct job *head;
};

int jobs_new(struct loop *l, void *owner, struct jobs **ret, struct err *err)
{
	struct jobs *js = calloc(1, sizeof(*js));

	if (js == NULL)
		return err_set(err, ERR_NOMEM, "jobs");
	js->loop = l;
	js->owner = owner;
	*ret = js;
	return 0;
}

static void finish(struct job *job)
{
	struct jobs *js = job->all;

	pthread_join(job->thread, NULL);
	for (struct job **at = &js->head; *at != NULL; at = &(*at)->next) {
		if (*at == job) {
			*at = job->next;
			break;
		}
	}
	job->done(js->owner, job->arg, job_cancelled(job));
	free(job);
}

static void on_finished(void *arg)
{
	finish(arg);
}

static void *run(void *arg)
{
	struct job *job = arg;

	job->work(job, job->arg);
	/* Without memory to say so the job is found by jobs_free() only. */
	(void)loop_post(job->all->loop, on_finished, job);
	return NULL;
}

int job_start(struct jobs *js, job_work_fn *work, job_done_fn *done, void *arg, struct err *err)
{
	struct job *job = calloc(1, sizeof(*job));

	if (job == NULL)
		return err_set(err, ERR_NOMEM, "job");
	job->all = js;
	job->work = work;
	job->done = done;
	job->arg = arg;
	int rc = pthread_create(&job->thread, NULL, run, job);

	if (rc != 0) {
		free(job);
		return err_set(err, ERR_SYS, "thread: %s", strerror(rc));
	}
	job->next = js->head;
	js->head = job;
	return 0;
}

bool job_cancelled(const struct job *job)
{
	return atomic_load(&job->cancel);
}

void jobs_cancel(struct jobs *js)
{
	for (struct job *job = js->head; job != NULL; job = job->next)
		atomic_store(&job->cancel, true);
}

bool jobs_idle(const struct jobs *js)
{
	return js->head == NULL;
}

struct jobs *jobs_free(struct jobs *js)
{
	if (js == NULL)
		return NULL;
	jobs_cancel(js);
	while (js->head != NULL)
		finish(js->head);
	free(js);
	return NULL;
}
