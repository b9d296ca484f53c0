//! Decisions that change the cluster: a request and the image become records and a response.
