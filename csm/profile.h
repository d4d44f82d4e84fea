/* profile.h - what a device application says of itself: checked once here, trusted afterwards (spec iottalk-core 3).
 *
 * Pure functions on JSON; no process state.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

struct profile {
	char *name;		/* NULL: none given */
	json_t *accept_protos;	/* list of lower-case strings, not empty */
	json_t *idf_list;	/* list of features as they were sent, not empty; NULL: none */
	json_t *odf_list;
	json_t *profile;	/* object with "model" */
};

/* What is wrong with a body, in the words clients look for. */
struct refusal {
	unsigned status; /* HTTP */
	char reason[400];
};

/* Check the body of PUT. *ret is empty before; release with profile_done(). ret: 0, or negative with *why. */
int profile_parse(json_t *body, struct profile *ret, struct refusal *why);
/* Merge a POST body into `old` (top-level fields replace, `profile` is merged key by key, recursively; null removes) and check the
 * result like PUT. path: "profile/model" puts the body at that place. ret is independent of old. */
int profile_merge(const struct profile *old, const char *path, json_t *body, struct profile *ret,
		  struct refusal *why);
void profile_done(struct profile *p);

/* {"name":...,"accept_protos":...,"idf_list":...,...} without the absent ones; a new object. NULL: out of memory. */
json_t *profile_to_json(const struct profile *p);
/* The features of both lists, to ask whether a link's feature is declared. mode: "idf" or "odf". */
bool profile_has_feature(const struct profile *p, const char *mode, const char *feature);
const char *profile_model(const struct profile *p);
