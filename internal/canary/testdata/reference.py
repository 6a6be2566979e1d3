# Figures of TestReference: python reference.py, with scipy 1.17.1.
# scipy 1.17.1: Fisher's noncentral hypergeometric law and the beta-binomial mixture.
import numpy as np
from scipy.stats import nchypergeom_fisher as F
from scipy.special import betaln
from scipy.optimize import brentq
from scipy.stats import norm
def evidence(blocks, margin, sign):
    s=np.log(2); pts=32
    d=4*s*(np.arange(pts)+.5)/pts
    w=np.exp(-d*d/(2*s*s)); w/=w.sum()
    logs=np.log(margin)+sign*d
    sums=np.zeros(pts)
    for (nb,kb),(nc,kc) in blocks:
        M=nb+nc; K=kb+kc
        null=F.logpmf(kc,M,K,nc,margin)
        sums+=[F.logpmf(kc,M,K,nc,np.exp(l))-null for l in logs]
    return np.log(np.sum(w*np.exp(sums)))
for blocks,m,s in [([((100,3),(100,9))],1.5,1),([((100,3),(100,9))],1.5,-1),([((1000,10),(200,4)),((900,12),(250,9)),((50,0),(60,2))],1,1),([((300,30),(280,25)),((310,28),(305,31))],2,-1)]:
    print(blocks,m,s,repr(evidence(blocks,m,s)))
def ci(n,k,a):
    mix=betaln(k+.5,n-k+.5)-betaln(.5,.5)
    from math import log
    def f(p): return mix-(k*log(p) if k else 0)-((n-k)*log(1-p) if n>k else 0)+log(a)
    e=k/n
    lo=brentq(f,1e-15,e,xtol=1e-15) if k else 0
    hi=brentq(f,e if k else 1e-15,1-1e-12,xtol=1e-15) if k<n else 1
    return lo,hi
for n,k,a in [(1000,3,.05),(50,0,.05),(10000,137,.01),(20,20,.05)]:
    print(n,k,a,ci(n,k,a))
