//! What only the inside of the epoll driver can show.
