/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A guest's call, from Python's numbers to Python's numbers: the one thing
 * that is done millions of times. Through cffi's conversions it took twice as
 * long, so this part of the interface is a function of Python's own.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "internal.h"

#define REGS 18

/* What a caller is made of; see ffashim_caller(). */
enum { SLOT, VCPU, SLOW, REPLY, PARTS };

static PyObject *reply(PyTypeObject *type)
{
    const uint64_t *frame = ffashim_frame();
    /* As tuple's own constructor does, which would copy another tuple. */
    PyObject *answer = type->tp_alloc(type, REGS);

    for ( unsigned int n = 0; answer && n < REGS; n++ )
    {
        PyObject *x = PyLong_FromUnsignedLongLong(frame[n]);

        if ( !x )
            Py_CLEAR(answer);
        else
            PyTuple_SET_ITEM(answer, n, x);
    }

    return answer;
}

/* caller(x0, x1, ...): missing registers are zero. */
static PyObject *call(PyObject *self, PyObject *const *args, Py_ssize_t nr)
{
    uint32_t slot = PyLong_AsUnsignedLong(PyTuple_GET_ITEM(self, SLOT));
    uint32_t vcpu = PyLong_AsUnsignedLong(PyTuple_GET_ITEM(self, VCPU));
    PyObject *type = PyTuple_GET_ITEM(self, REPLY);
    uint64_t frame[REGS] = { 0 };
    int code;

    if ( nr > REGS )
        return PyErr_Format(PyExc_TypeError, "a call has %d registers", REGS);
    for ( Py_ssize_t n = 0; n < nr; n++ )
    {
        frame[n] = PyLong_AsUnsignedLongLong(args[n]);
        if ( frame[n] == UINT64_MAX && PyErr_Occurred() )
            return NULL;
    }
    memcpy(ffashim_frame(), frame, sizeof(frame));

    code = ffashim_call(0, slot, vcpu);
    if ( code )
    {
        PyObject *none = PyObject_CallFunction(PyTuple_GET_ITEM(self, SLOW),
                                               "iII", code, slot, vcpu);

        if ( !none )
            return NULL;
        Py_DECREF(none);
    }

    return reply((PyTypeObject *)type);
}

/*
 * Return a function that makes the calls of one vCPU. @parts is a tuple: the
 * slot of the domain and the vCPU's number, then a function (code, slot, vcpu)
 * for a call that ffashim_call() could not finish, which leaves the answer in
 * the frame or raises, and the type of the answer, a plain subclass of tuple.
 */
__attribute__((__visibility__("default")))
PyObject *ffashim_caller(PyObject *parts)
{
    static PyMethodDef method = {
        .ml_name = "caller",
        .ml_meth = (PyCFunction)(void (*)(void))call,
        .ml_flags = METH_FASTCALL,
    };

    if ( !PyTuple_Check(parts) || PyTuple_GET_SIZE(parts) != PARTS ||
         !PyType_Check(PyTuple_GET_ITEM(parts, REPLY)) )
    {
        PyErr_SetString(PyExc_TypeError, "(slot, vCPU, function, type)");
        return NULL;
    }

    return PyCFunction_New(&method, parts);
}
