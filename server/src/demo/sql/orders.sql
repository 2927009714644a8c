-- A foreign key to another service's table: on no node is an order seen without its customer.
CREATE TABLE "order" (
    id bigint PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES customer_v1,
    cents bigint NOT NULL,
    paid boolean NOT NULL DEFAULT false
) WITH (history = 'forever');

CREATE MATERIALIZED VIEW public.order_v1 AS
    SELECT id, customer_id, round(cents / 100.0, 2) AS amount, paid FROM "order";
CREATE TABLE public.order_placed_v1 (order_id bigint NOT NULL REFERENCES "order", cents bigint NOT NULL)
    WITH (event = true);
GRANT READ ON order_* TO billing;

-- Two commands: rows that others insert, in transactions of their own. Each comes once, in order.
CREATE TABLE public.place_order (id bigint NOT NULL, customer_id bigint NOT NULL, cents bigint CHECK (cents > 0))
    WITH (inbox = true);
CREATE TABLE public.pay_order (id bigint NOT NULL) WITH (inbox = true);
GRANT INSERT ON place_order TO shop;
GRANT INSERT ON pay_order TO billing;

-- The shop gives the id, so it may ask again whenever it has heard nothing.
CREATE FUNCTION place() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO "order" VALUES (NEW.id, NEW.customer_id, NEW.cents) ON CONFLICT (id) DO NOTHING;
    IF FOUND THEN
        INSERT INTO order_placed_v1 VALUES (NEW.id, NEW.cents);
    END IF;
    PERFORM freehold.reply(NEW.sender, NEW.number, '{"verdict": "placed"}');
    RETURN NULL;
EXCEPTION WHEN foreign_key_violation THEN
    PERFORM freehold.reply(NEW.sender, NEW.number, '{"verdict": "no such customer"}');
    RETURN NULL;
END $$;
CREATE TRIGGER place BEFORE INSERT ON place_order FOR EACH ROW EXECUTE FUNCTION place();

CREATE FUNCTION pay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE "order" SET paid = true WHERE id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER pay BEFORE INSERT ON pay_order FOR EACH ROW EXECUTE FUNCTION pay();
