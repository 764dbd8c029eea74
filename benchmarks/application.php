<?php
// The same as application.py, for PHP-FPM.
const VERSION = 1;

file_get_contents("php://input");
file_put_contents(__DIR__ . "/journal", $_GET["id"] . "\n", FILE_APPEND);
$end = microtime(true) + (float) $_GET["seconds"];
while (($left = $end - microtime(true)) > 0) {
    usleep((int) ceil(1e6 * $left)); // a signal ends it early
}
$body = $_GET["id"] . " " . VERSION;
header("Content-Type: text/plain");
header("Content-Length: " . strlen($body));
echo $body;
