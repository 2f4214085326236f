//! Where the nodes of a service are: names in, addresses out.
