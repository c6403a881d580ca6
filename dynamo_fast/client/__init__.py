"""The trio client: routing by partition or through a load balancer, contexts, siblings, retries; and its blocking twin."""
