GET / HTTP/1.0

