//! The harness of the integration tests: real binaries, real services, oracles that share no code with the product.
