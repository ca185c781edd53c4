"""The provider's service: takes jobs over HTTP, runs them by Celery, keeps their state, and sees that they are paid."""
