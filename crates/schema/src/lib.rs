//! The notation in which Ottla writes down Kafka's messages, its parser, and the code generator behind ottla-protocol.
