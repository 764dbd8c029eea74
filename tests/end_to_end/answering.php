<?php // Answers with its process ID, after as many milliseconds as the query says.
$end = microtime(true) + (int)$_SERVER['QUERY_STRING'] / 1000;
while (($left = $end - microtime(true)) > 0) usleep((int)($left * 1e6));
echo getmypid(), "\n";
