//! Groups and their offsets: a request becomes records and a response, replay changes the state.
