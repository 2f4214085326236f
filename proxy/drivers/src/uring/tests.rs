//! What only the inside of the io_uring driver can show.
