CREATE MATERIALIZED VIEW public.order_v2 AS
    SELECT id, customer_id, cents, CASE WHEN paid THEN 'paid' ELSE 'open' END AS state FROM "order";

ALTER MATERIALIZED VIEW public.order_v1 SET (sunset = '2030-01-31');
