"""What the fuzzer of the reply path is made of: answers, mutations, peers and the judge."""
