//! Python's containers read where they lie: keys, values and items without counting references, which in the stable
//! ABI costs a call into the interpreter per object and direction. The only file of our source with `unsafe`.
//!
//! Why it is sound: the container is borrowed and holds its objects, and the walks below are only made while this
//! thread is attached to the interpreter and runs no Python code, so nobody can take an object out meanwhile. Callers
//! keep that promise by handling exact built-in types only (see `Table::put`, `value::plain` and `json`), by not detaching, and by
//! ending the walk, with no further look at it, at a text that raises.
#![expect(unsafe_code, reason = "the one audited exception: at most 100 lines, checked by the tidy tests")]

use std::ffi::{c_int, c_longlong};
use std::ptr::null_mut;

use pyo3::types::{PyDict, PyInt, PyList, PyTuple};
use pyo3::{Borrowed, Bound, PyAny, ffi};

/// An object that its container keeps alive.
pub(crate) type Item<'a, 'py> = Borrowed<'a, 'py, PyAny>;

/// The entries of a dict, in its order.
#[inline]
pub(crate) fn entries<'a, 'py>(dict: &'a Bound<'py, PyDict>) -> impl Iterator<Item = (Item<'a, 'py>, Item<'a, 'py>)> {
    let mut position = 0;
    std::iter::from_fn(move || {
        let (mut key, mut value) = (null_mut(), null_mut());
        // SAFETY: `dict` is a dict, attached by its lifetime; the position is only ever written by this function.
        let more = unsafe { ffi::PyDict_Next(dict.as_ptr(), &raw mut position, &raw mut key, &raw mut value) };
        // SAFETY: both are set and held by the dict, by the promise above for as long as the caller looks at them.
        (more != 0).then(|| unsafe { (Borrowed::from_ptr(dict.py(), key), Borrowed::from_ptr(dict.py(), value)) })
    })
}

/// The items of a list, in order.
#[inline]
pub(crate) fn items<'a, 'py>(list: &'a Bound<'py, PyList>) -> impl Iterator<Item = Item<'a, 'py>> {
    walk(list.as_any(), ffi::PyList_Size, ffi::PyList_GetItem)
}

/// The items of a tuple, in order.
#[inline]
pub(crate) fn members<'a, 'py>(tuple: &'a Bound<'py, PyTuple>) -> impl Iterator<Item = Item<'a, 'py>> {
    walk(tuple.as_any(), ffi::PyTuple_Size, ffi::PyTuple_GetItem)
}

type SizeOf = unsafe extern "C" fn(*mut ffi::PyObject) -> ffi::Py_ssize_t;
type ItemOf = unsafe extern "C" fn(*mut ffi::PyObject, ffi::Py_ssize_t) -> *mut ffi::PyObject;

/// `size_of` and `item_of` are those of the sequence's own type.
#[inline]
fn walk<'a, 'py>(
    sequence: &'a Bound<'py, PyAny>,
    size_of: SizeOf,
    item_of: ItemOf,
) -> impl Iterator<Item = Item<'a, 'py>> {
    // SAFETY: the two callers above pass the functions of the type that they were given.
    let size = unsafe { size_of(sequence.as_ptr()) };
    // SAFETY: every index is below the size, which no Python code can change meanwhile; the sequence holds the item.
    (0..size).map(move |index| unsafe { Borrowed::from_ptr(sequence.py(), item_of(sequence.as_ptr(), index)) })
}

/// An int of up to 64 bits. Makes no exception for longer ones.
#[inline]
pub(crate) fn whole(number: &Bound<'_, PyInt>) -> Option<i64> {
    let mut overflow: c_int = 0;
    // SAFETY: `number` is an int, so the call cannot fail otherwise than by overflow.
    let value: c_longlong = unsafe { ffi::PyLong_AsLongLongAndOverflow(number.as_ptr(), &raw mut overflow) };
    (overflow == 0).then_some(value)
}
