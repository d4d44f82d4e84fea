/* project.h - projects, device objects, network applications, links, bindings (spec ccm 3.3 to 3.6, 3.9, 3.11, 4.3, 6).
 *
 * Everything belongs to the caller's own projects; what is another user's is not there (ERR_NOENT). p_id and do_id are the
 * parents that the path names: the object must be theirs. The gui API may leave parents out.
 *
 * A network application is whole at any time: at least one input and one output, all of one project; one row for each
 * parameter of each link; an argument (MultipleJoin_Module) for each input and for nothing else. The flags by which the
 * original's editors could leave that out (check_tag, check_na_complete, check_do_valid) are accepted and change nothing.
 */
#pragma once

#include "ccm/op.h"

/* ---- projects ---- */

extern const struct op op_project_create;   /* p_name: {p_id} */
extern const struct op op_project_list;	    /* [Project row] */
extern const struct op op_project_info;	    /* p_id or p_name: project info */
extern const struct op op_project_status;   /* p_id, status: {p_id, status} */
extern const struct op op_project_delete;   /* p_id: {p_id} */
extern const struct op op_project_rename;   /* p_id, newname: {p_id, p_name} */
extern const struct op op_project_is_on;    /* p_id: "on" or "off" */
extern const struct op op_project_search;   /* p_name: p_id or null */
extern const struct op op_project_export;   /* p_id, functions?: bool, with the code of the functions: the document */
/* p_name, document: {p_id}. Functions that the document brings are made where the caller has none of that name. A document that
 * is wrong: ERR_INVAL, with the path of what is wrong. */
extern const struct op op_project_import;

extern const struct op op_simulation_get;     /* p_id: "on" or "off" */
extern const struct op op_simulation_set;     /* p_id, sim: {p_id, sim} */
extern const struct op op_simulation_turn_on; /* p_id: "on"; the same off */
extern const struct op op_simulation_turn_off;

/* ---- device objects, what is bound to them ---- */

/* df: a list of df_id or of df_name */
extern const struct op op_object_create; /* p_id, dm_id, df: {do_id} */
extern const struct op op_object_info;	 /* do_id: model info and "do" */
extern const struct op op_object_update; /* do_id, df: {do_id}; with an empty df the object goes */
extern const struct op op_object_delete; /* do_id: {do_id} */

extern const struct op op_device_list;	   /* do_id: {do_id, data: [Device row]} */
extern const struct op op_device_list_gui; /* do_id: {do_id, device_list: [Device row]} */
/* do_id and d_id, or `device`: digits are a d_id or else an address, anything else is an address: {d_name}. What is bound
 * already is replaced. A device of another user is bound only where it is just read: to objects without output features. */
extern const struct op op_device_bind;
extern const struct op op_device_unbind; /* do_id: {do_id} */

/* ---- features of device objects ---- */

/* dfo_id: {dfo_id, alias_name, df_id, dm_name, df_type, mf_id, df_mapping_func, df_parameter} */
extern const struct op op_dfobject_info;
extern const struct op op_dfobject_create; /* do_id, df_id, alias_name: {dfo_id} */
/* dfo_id, alias_name, df_parameter: {dfo_id}. The parameters become the caller's own for that model's feature, one for each; what
 * one does not say stays as the caller sees it. An empty list leaves them as they are. */
extern const struct op op_dfobject_update;
extern const struct op op_dfobject_delete; /* dfo_id: {dfo_id, do_id} */
extern const struct op op_alias_get;	   /* mac_addr, df_name: {alias_name} */
extern const struct op op_alias_set;	   /* mac_addr, df_name, alias_name: {alias_name} */

/* ---- network applications ---- */

/* p_id, na_name, na_idx, dfo_ids: {na_id}. An index that is taken becomes the next free one. */
extern const struct op op_na_create;
extern const struct op op_na_list;     /* p_id: {p_id, data: [na summary]} */
extern const struct op op_na_list_gui; /* p_id: {p_id, na: [na summary]} */
extern const struct op op_na_info;     /* na_id: na info */
extern const struct op op_na_info_gui; /* the same; null if there is none */
/* na_id, na_name?, multiplejoin_fn_id?, dfm_list?: {na_id}. What is not there stays as it is; a function that is null goes. */
extern const struct op op_na_update;
extern const struct op op_na_delete;  /* na_id: {na_id} */
extern const struct op op_na_monitor; /* na_id: {input: [...], output: [...]} */
extern const struct op op_link_create; /* na_id, dfo_id: {na_id} */
extern const struct op op_link_delete; /* na_id, dfo_id: {na_id}; null: the application went with it */
