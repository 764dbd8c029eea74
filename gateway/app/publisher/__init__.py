"""The Publisher: the public names of Python modules at URLs, `shop.cart` at /shop/cart.

    sources → names → tree → application → binding → the function → answers

Owns what is published, how parameters become arguments and how results become answers. The only folder of a worker that
may import Werkzeug, and imported only where an application names a publisher.
"""
