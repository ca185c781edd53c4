"""The payer's side of a purchase: quote, check, upload, accept, fund, wait, fetch, verify, release, reclaim."""
