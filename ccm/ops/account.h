/* account.h - users and what administrators may do (spec ccm 3.2, 3.12). */
#pragma once

#include "ccm/op.h"

/* username, password, peer: where from, session: digest of the login that ends with success, or "". Result: id, session: the new
 * login's token. Errors: ERR_ACCES; ERR_LIMIT: too many failed, with "retry_after_s" as the result; ERR_AGAIN. */
extern const struct op op_account_login;
extern const struct op op_account_oauth2; /* refused: it is not part of this build */
extern const struct op op_account_logout; /* session: its digest */
extern const struct op op_account_create; /* username, password, peer. Result: id. Errors: ERR_EXIST; ERR_LIMIT as above */
extern const struct op op_account_delete; /* the caller */
extern const struct op op_account_profile; /* gui*: the uuid that the ticket is for; session: digest of the login */

/* Arguments are those of spec 3.12. */
extern const struct op op_admin_user_list, op_admin_user_pass, op_admin_user_switch, op_admin_user_delete;
extern const struct op op_admin_project_list, op_admin_project_stop, op_admin_project_delete;
extern const struct op op_admin_device_list, op_admin_device_unbind;

/* Inside a transaction: the user with all it has; its graphs go after the commit. ret: 0, ERR_NOENT ... */
int account_remove(struct op_call *c, int64_t u_id);
/* May a user be called that? ret: 0 or ERR_INVAL. */
int account_check_name(const char *name, struct err *err);
