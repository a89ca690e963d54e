"""The night: select from the site's source, score, deliver, report; safe to start twice, and to be broken off."""
