-- The sample data of `gateway demo`. The e-mail addresses are what policies protect.
CREATE TABLE public.customers (
    id int PRIMARY KEY,
    name text NOT NULL,
    email text NOT NULL UNIQUE,
    region text NOT NULL
);
CREATE TABLE public.products (
    id int PRIMARY KEY,
    title text NOT NULL,
    price numeric(8, 2) NOT NULL,
    stock int NOT NULL
);
CREATE TABLE public.orders (
    id int PRIMARY KEY,
    customer_id int NOT NULL REFERENCES public.customers,
    product_id int NOT NULL REFERENCES public.products,
    quantity int NOT NULL,
    total numeric(10, 2) NOT NULL,
    status text NOT NULL
);

INSERT INTO public.customers
SELECT n, 'Customer ' || n, 'customer' || n || '@mail.example', (ARRAY['north', 'south', 'east'])[n % 3 + 1]
FROM generate_series(1, 60) n;
INSERT INTO public.products
SELECT n, (ARRAY['Lamp', 'Chair', 'Table', 'Shelf'])[n % 4 + 1] || ' no. ' || n, n * 1.25 + 5, 40 + n
FROM generate_series(1, 20) n;
INSERT INTO public.orders
SELECT n, n % 60 + 1, p.id, n % 3 + 1, (n % 3 + 1) * p.price, (ARRAY['open', 'paid', 'sent'])[n % 3 + 1]
FROM generate_series(1, 600) n JOIN public.products p ON p.id = n % 20 + 1;

CREATE VIEW public.open_orders AS SELECT id, customer_id, total FROM public.orders WHERE status = 'open';
CREATE FUNCTION public.order_total(customer int) RETURNS numeric LANGUAGE sql STABLE AS
    $$ SELECT sum(total) FROM public.orders WHERE customer_id = customer $$;
