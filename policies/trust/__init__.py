"""How signed policies reach a gateway and are believed: TUF repository, assignment, spool, last good."""
