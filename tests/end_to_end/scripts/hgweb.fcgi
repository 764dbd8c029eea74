#!/usr/bin/env python3
# In the manner of Mercurial's contrib/hgweb.fcgi; `hgweb.config` lies beside it.
import os

from mercurial import demandimport

demandimport.enable()
from flup.server.fcgi import WSGIServer
from mercurial.hgweb import hgweb

application = hgweb(os.fsencode(os.path.join(os.path.dirname(os.path.abspath(__file__)), "hgweb.config")))
WSGIServer(application).run()
