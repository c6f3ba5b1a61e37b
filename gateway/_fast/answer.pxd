# Start of the body of a whole usual answer, and its status in `status`; -1 for anything else. Never raises.
cdef Py_ssize_t body_of_whole(bytes data, int* status) noexcept
