/* cmd_man.c - iotctl man, completion, complete: what the table of commands gives to other programs.
 */
#include "common/util.h"
#include "iotctl/commands.h"
#include "iotctl/complete.h"
#include "iotctl/manual.h"
#include <stdio.h>
#include <string.h>

int cmd_man(struct iotctl *app, const struct options *o)
{
	const struct manual_page *page = manual_pages;

	(void)app;
	if (o->argc > 1)
		return misused("man: the name of one page, please");
	const char *name = o->argc == 1 ? o->argv[0] : "iotctl";

	while (page->name != NULL && strcmp(page->name, name) != 0)
		page++;
	if (page->name == NULL)
		return misused("man: there is no page '%s'", name);
	page->write(page, stdout);
	return fflush(stdout) == 0 ? EXIT_OK : complain("man: %s", strerror(errno));
}

/* Both ask iotctl itself, so they never know less than it. */
static const struct {
	const char *shell, *script;
} scripts[] = {
	{"bash",
	 "# bash completion for iotctl; made by `iotctl completion bash`\n"
	 "_iotctl()\n"
	 "{\n"
	 "\tlocal cur words cword\n"
	 "\tif declare -F _get_comp_words_by_ref >/dev/null; then\n"
	 "\t\t_get_comp_words_by_ref -n : cur words cword\n"
	 "\telse\n"
	 "\t\twords=(\"${COMP_WORDS[@]}\") cword=$COMP_CWORD cur=${COMP_WORDS[COMP_CWORD]}\n"
	 "\tfi\n"
	 "\tmapfile -t COMPREPLY < <(\"${words[0]}\" complete -- \"${words[@]:1:cword}\" "
	 "2>/dev/null)\n"
	 "}\n"
	 "complete -o bashdefault -o default -F _iotctl iotctl\n"},
	{"zsh", "#compdef iotctl\n"
		"# zsh completion for iotctl; made by `iotctl completion zsh`\n"
		"_iotctl()\n"
		"{\n"
		"\tlocal -a candidates\n"
		"\tcandidates=(${(f)\"$(${words[1]} complete -- \"${(@)words[2,CURRENT]}\" "
		"2>/dev/null)\"})\n"
		"\tif (( ${#candidates} )); then\n"
		"\t\tcompadd -a candidates\n"
		"\telse\n"
		"\t\t_files\n"
		"\tfi\n"
		"}\n"
		"if [[ $zsh_eval_context[-1] == loadautofunc ]]; then\n"
		"\t_iotctl \"$@\"\n"
		"else\n"
		"\tcompdef _iotctl iotctl\n"
		"fi\n"},
};

int cmd_completion(struct iotctl *app, const struct options *o)
{
	(void)app;
	for (size_t i = 0; o->argc == 1 && i < ARRAY_LEN(scripts); i++) {
		if (strcmp(o->argv[0], scripts[i].shell) != 0)
			continue;
		fputs(scripts[i].script, stdout);
		return fflush(stdout) == 0 ? EXIT_OK : complain("completion: %s", strerror(errno));
	}
	return misused("completion: for which shell, bash or zsh?");
}

static void print_candidate(void *arg, const char *word)
{
	(void)arg;
	puts(word);
}

int cmd_complete(struct iotctl *app, const struct options *o)
{
	if (o->argc > 0)
		complete(app, o->argc, o->argv, print_candidate, NULL);
	return EXIT_OK;
}
