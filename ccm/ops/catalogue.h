/* catalogue.h - models, features, parameters, units, tags, functions (spec ccm 3.7, 3.8, 3.10, 4.3). */
#pragma once

#include "ccm/fields.h"
#include "ccm/op.h"

/* What is said by id or by name has both as arguments; the id goes before. */

/* Models. df_list: of model_feature_fields. */
extern const struct op op_model_create, op_model_update, op_model_delete, op_model_info, op_model_search;
extern const struct op op_model_list;	  /* a list */
extern const struct op op_model_dm_list; /* {"dm_list": a list} */

/* Features. df_parameter: of param_fields (ops/param.h). */
extern const struct op op_feature_create, op_feature_update, op_feature_delete, op_feature_info, op_feature_search, op_feature_list;

/* Parameters and tags of (df_id, dm_id) or mf_id; parameters of df_id alone, too. */
extern const struct op op_param_set, op_param_delete, op_param_get;
extern const struct op op_tags_save, op_tags_delete, op_tags_get;

extern const struct op op_category_create, op_category_list, op_unit_create, op_unit_list, op_tag_create, op_tag_list;

/* Functions; their code is compiled, in an engine, before it is stored. */
extern const struct op op_function_create, op_function_update, op_function_delete, op_function_info, op_function_versions;
extern const struct op op_function_list, op_function_of_feature, op_function_of_joins, op_function_of_object;
extern const struct op op_offer_add, op_offer_remove; /* FunctionSDF */

/* Elements of df_list, and of tags. */
extern const struct field model_feature_fields[], tag_ref_fields[];
