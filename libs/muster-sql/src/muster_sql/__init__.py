"""SQL for Muster services: engine, migrations, batches, outbox."""
