"""One job to one bundle, verified before it leaves: witness, proof, signature. No queue, no database, no chain."""
