#include "engine/py_priv.h"

void py_after_fork(struct py *py)
{
	(void)py;
	PyOS_AfterFork_Child();
}
