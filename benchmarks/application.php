<?php
// The same as application.py, for PHP-FPM.
const VERSION = 1;

function note(string $line): void
{
    file_put_contents(__DIR__ . "/journal", $line . " " . getmypid() . "\n", FILE_APPEND);
}

file_get_contents("php://input");
note("begin " . $_GET["id"]);
$end = microtime(true) + (float) $_GET["seconds"];
while (($left = $end - microtime(true)) > 0) {
    usleep((int) ceil(1e6 * $left)); // a signal ends it early
}
note("end " . $_GET["id"]);
$body = $_GET["id"] . " " . VERSION;
header("Content-Type: text/plain");
header("Content-Length: " . strlen($body));
echo $body;
