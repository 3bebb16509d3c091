"""`eru support`: what others need to help, without secrets."""
