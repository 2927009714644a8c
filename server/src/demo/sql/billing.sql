CREATE TABLE invoice (order_id bigint PRIMARY KEY, customer text NOT NULL, amount numeric NOT NULL, paid boolean NOT NULL);
CREATE TABLE till (id int PRIMARY KEY, cents bigint NOT NULL);
INSERT INTO till VALUES (1, 0);

-- Tables of others that are here, too, those of tomorrow included; and what is done with their rows: once for
-- each, whoever leads and whatever falls.
FOLLOW order_*, customer_*;

CREATE FUNCTION bill() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    CASE TG_OP
    WHEN 'INSERT' THEN
        INSERT INTO invoice SELECT NEW.id, name, NEW.amount, NEW.paid FROM customer_v1 WHERE id = NEW.customer_id;
    WHEN 'UPDATE' THEN
        UPDATE invoice SET paid = NEW.paid WHERE order_id = NEW.id;
    ELSE
        ERASE FROM invoice WHERE order_id = OLD.id;
    END CASE;
    RETURN NULL;
END $$;
CREATE TRIGGER bill AFTER INSERT OR UPDATE OR DELETE ON order_v1 FOR EACH ROW EXECUTE FUNCTION bill();
